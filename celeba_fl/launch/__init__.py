"""Ways to start a run: Flower's commands, and the same apps in one process."""
