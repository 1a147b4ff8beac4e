"""What clients of a simulation do to the others, so that a defence can be tried."""
