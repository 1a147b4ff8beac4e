"""The run directory: written, read and resumed."""
