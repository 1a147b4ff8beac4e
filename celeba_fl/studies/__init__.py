"""Runs about runs: reference points, and grids of settings."""
