"""Chooses what to generate and trains the classifier on it. Knows neither prefect nor ray."""
