"""Where jobs run: in this process, or on Ray actors. Knows nothing of what a job does."""
