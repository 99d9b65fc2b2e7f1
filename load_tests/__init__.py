"""Load on a running platform, and what it says of capacity. Never deployed."""
