"""A model leaves the house, as a folder that works without this package, and a run, for tools."""
