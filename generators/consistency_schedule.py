"""The noise levels of latent consistency models (Luo et al. 2023, arXiv:2310.04378, Section 4.3).

Knows nothing of networks. Such a network was distilled at `original_steps` timesteps of the full
schedule, k = T // original_steps apart, and may start at any of them. Image guidance therefore
shortens that list, and every level runs all its steps, as diffusers' LCM image-to-image does.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from generators.errors import ConfigError
from generators.noise import NoiseLevel, PredictionType
from generators.records import num_denoising_steps


@dataclass(frozen=True, kw_only=True, eq=False)
class ConsistencySchedule:
    """Noise levels of a consistency model; satisfies `Schedule`.

    Attributes:
        alphas_cumprod: (T,), falling from 1 to 0.
        prediction_type: what the network outputs.
        original_steps: timesteps it was distilled at, at most T.
    """

    alphas_cumprod: Tensor
    prediction_type: PredictionType
    original_steps: int = 50

    def __post_init__(self) -> None:
        count = len(self.alphas_cumprod)
        if not 1 <= self.original_steps <= count:
            raise ConfigError("original_inference_steps", self.original_steps, f"1..{count}")

    def levels(self, num_inference_steps: int, image_guidance: int = 0) -> tuple[NoiseLevel, ...]:
        """The levels a run at `image_guidance` percent visits, noisiest first, clean last.

        Raises:
            ConfigError: more steps than the level has timesteps to choose from.
        """
        steps = consistency_steps(self.original_steps, num_inference_steps, image_guidance)
        kept = num_denoising_steps(self.original_steps, image_guidance)
        spacing = len(self.alphas_cumprod) // self.original_steps
        places = np.floor(np.linspace(0, kept, steps, endpoint=False)).astype(int)
        levels = []
        for index, place in enumerate(places.tolist()):
            timestep = (kept - place) * spacing - 1
            signal = float(self.alphas_cumprod[timestep].double())
            levels.append(
                NoiseLevel(
                    timestep=float(timestep),
                    alpha=signal**0.5,
                    sigma=(1 - signal) ** 0.5,
                    progress=index / steps,
                )
            )
        return (*levels, NoiseLevel(timestep=0.0, alpha=1.0, sigma=0.0, progress=1.0))


def consistency_steps(original_steps: int, num_inference_steps: int, image_guidance: int) -> int:
    """Steps a level runs: all of them, none where the image is the source.

    Raises:
        ConfigError: fewer timesteps are left at this level than steps are asked for.
    """
    if image_guidance == 100:
        return 0
    kept = num_denoising_steps(original_steps, image_guidance)
    if not 1 <= num_inference_steps <= kept:
        allowed = f"1..{kept}: at level {image_guidance} that many of the {original_steps} " + (
            "timesteps are left that this consistency model was distilled at"
        )
        raise ConfigError("generation.num_inference_steps", num_inference_steps, allowed)
    return num_inference_steps
