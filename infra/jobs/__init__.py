"""What runs inside a worker: one job a file. Knows neither prefect nor ray."""
