"""The same job as in Flower's quickstart."""
