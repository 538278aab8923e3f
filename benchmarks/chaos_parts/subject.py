"""What is run and disturbed: three classes of small images, their exact generator, a judge.

A run of it passes through every stage up to the committed manifest in a few seconds, and has enough
shards that a random moment mostly hits the generation.
"""

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

UP_DOWN = np.repeat([[0.8], [-0.8]], 4, axis=0) * np.ones((8, 8))
PATTERNS = {"across": UP_DOWN.T, "rare": np.eye(8) * 1.6 - 0.8, "upright": UP_DOWN}
COUNTS = {"across": 40, "rare": 12, "upright": 16}
LEVELS = (0, 40, 70)
PER_CLASS = 100


def write_subject(folder: Path) -> Path:
    """Writes images and a config below a folder; returns the config."""
    images = folder / "images"
    for name, count in COUNTS.items():
        (images / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            noise = np.random.default_rng(index).normal(0, 0.1, (8, 8))
            pixels = np.clip((PATTERNS[name] + noise + 1) * 127.5, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(images / name / f"{index:03d}.png")
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(_config(images)))
    return config


def _config(images: Path) -> dict[str, Any]:
    means = {name: [pattern.ravel().tolist()] for name, pattern in PATTERNS.items()}
    return {
        "name": "chaos",
        "data": {
            "source": {"name": "folder", "path": str(images)},
            "channels": 1,
            "image_size": 8,
            "test_percent": 25,
            "many_above": 20,
            "few_below": 13,
        },
        "hard_set": {"name": "few_shot", "threshold": 13},
        "generation": {
            "backbone": {"name": "toy", "means": means, "shape": [1, 8, 8]},
            "levels": list(LEVELS),
            "target": {"per_class": PER_CLASS},
            "num_inference_steps": 100,
            "batch_size": 8,
        },
        "filter": {"judges": ["classifier"]},
        "shards": {"images_per_shard": 10},
        "training": {
            "model": "small_cnn",
            "epochs": 4,
            "updates_per_epoch": 3,
            "batch_size": 8,
            "seeds": 1,
        },
        "curriculum": {"schedule": "fixed_stages"},
        "workers": {"kind": "ray", "count": 2, "threads": 1},
    }
