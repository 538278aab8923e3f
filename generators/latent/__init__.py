"""Parts that latent diffusion backbones share: checkpoints, autoencoders, run-time options."""
