"""Metrics from counts that add up, demographic groups compared, and how sure a figure is."""
