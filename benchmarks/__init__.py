"""Measurements whose results stand in RESULTS.md."""
