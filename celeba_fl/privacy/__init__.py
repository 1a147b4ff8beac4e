"""Only sums leave a client: secure aggregation, exact to the bit; see README.md."""
