"""What leaves a client: sums over many of them alone, and under keys that their owners signed."""
