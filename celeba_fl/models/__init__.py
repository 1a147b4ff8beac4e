"""What learns: heads on frozen features, and networks that are trained whole."""
