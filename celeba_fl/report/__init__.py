"""What people look at after a run, made from its run directory alone."""
