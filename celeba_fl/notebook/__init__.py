"""Runs from Python, as in a notebook: started as the command starts them, and read into tables."""
