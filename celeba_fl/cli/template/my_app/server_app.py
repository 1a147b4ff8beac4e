"""The ServerApp: that of celeba-fl, which runs the task of this app."""

from celeba_fl.server_app import app

__all__ = ["app"]
