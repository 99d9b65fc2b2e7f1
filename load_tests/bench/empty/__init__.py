"""The runtime alone."""
