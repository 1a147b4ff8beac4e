"""A model leaves the house: a folder that works without this package."""
