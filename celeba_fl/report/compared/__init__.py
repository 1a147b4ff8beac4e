"""The sections of a comparison, each a function from the runs by name to blocks."""
