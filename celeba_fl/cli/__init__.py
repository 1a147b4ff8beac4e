"""The `celeba-fl` command: what `flwr run` leaves to the user."""

from celeba_fl.cli.app import main

__all__ = ["main"]
