"""The run directory: written, read, resumed."""
