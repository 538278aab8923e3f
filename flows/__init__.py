"""Flows only compose tasks: no tensors, no files, no ray."""
