"""The parts of the kill suite."""
