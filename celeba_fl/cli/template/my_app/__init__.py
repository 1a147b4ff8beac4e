"""A Flower app with a task of its own, on the loop, strategies and reports of celeba-fl."""
