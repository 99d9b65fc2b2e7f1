"""A batch of many embedding lines through a running platform, checked line by line: `make bench-batch`."""
