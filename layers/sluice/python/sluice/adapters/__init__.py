"""The outside world, one module per technology. Each translates that technology's errors in exactly one function."""
