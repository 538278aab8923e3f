"""Makes images: noise schedules, backbones, samplers, guidance and the engine that batches them."""
