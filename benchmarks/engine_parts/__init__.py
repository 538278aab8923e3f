"""Parts of the engine benchmark: models, workload, baselines, measuring, tables."""
