"""Models that learn: heads on frozen features, and networks that are trained whole."""
