"""Storage, workers, configuration and the command line around the core."""
