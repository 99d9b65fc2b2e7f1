"""The floor: what a request costs at the least."""
