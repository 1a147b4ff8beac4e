"""The sections of a run's report, each a function from the run to blocks."""
