"""Measurements run from a checkout: python -m benchmarks WHAT, and scripts of their own. Never installed."""
