"""Sluice: a serverless AI-inference platform. One API, one set of keys: sync, batch and workflow."""

__version__ = "0.1.0"
