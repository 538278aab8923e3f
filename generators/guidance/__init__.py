"""Ways to steer a sampler; one file each."""
