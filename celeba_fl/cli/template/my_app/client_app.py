"""The ClientApp: that of celeba-fl, which runs the task of this app."""

from celeba_fl.client_app import app

__all__ = ["app"]
