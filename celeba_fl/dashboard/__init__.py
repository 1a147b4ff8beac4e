"""The dashboard: runs as they go, the devices that run them, and their models to try out."""
