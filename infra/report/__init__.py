"""The report of a run: one HTML page that needs nothing else, and its numbers as JSON."""
