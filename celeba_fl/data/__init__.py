"""The sources of one and the same table, and who holds which of its rows."""
