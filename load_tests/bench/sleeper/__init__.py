"""The benchmark's check of itself."""
