"""A Flower app that does nothing."""
