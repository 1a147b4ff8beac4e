"""Frozen networks, computed once an image, and what is kept of them."""
