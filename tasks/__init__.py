"""Units of work that Prefect retries, caches and shows; one concern a file."""
