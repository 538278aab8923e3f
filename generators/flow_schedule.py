"""Flow-matching schedules: x_t = (1 - sigma) * x_0 + sigma * eps, levels from diffusers' scheduler.

Sources: Lipman et al. 2022, arXiv:2210.02747; Liu et al. 2022, arXiv:2209.03003 (rectified flow);
Esser et al. 2024, arXiv:2403.03206 (section 5.3.2, shifts that depend on the resolution).

With alpha = 1 - sigma, DDIM is Euler's method on the flow: x' = alpha' x_0 + sigma' eps with
x_0 = x - sigma u and eps = x + alpha u is x + (sigma' - sigma) u.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from generators.errors import CheckpointError, ConfigError
from generators.noise import NoiseLevel, PredictionType
from generators.records import num_denoising_steps


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FlowSchedule:
    """The levels of a checkpoint's `FlowMatchEulerDiscreteScheduler`. Satisfies `Schedule`.

    The grid is the scheduler's own: static and dynamic shift, terminal shift, Karras, exponential
    and beta spacing are whatever its config says. The count at a level is the house's
    floor(N * (100 - image_guidance) / 100); the img2img pipelines of Stable Diffusion 3 and FLUX
    run one step more where that product is no integer (N = 10, 75 percent: 3 steps, here 2).

    Attributes:
        scheduler_config: of the checkpoint, with `_class_name`.
        num_image_tokens: patches of one image; a dynamic shift grows with it.
        linear_sigmas: hand the scheduler sigmas from 1 to 1/N, as the FLUX pipelines do; otherwise
            it spaces its training timesteps itself, as with Stable Diffusion 3.
        prediction_type: the network outputs eps - x_0.
    """

    scheduler_config: Mapping[str, Any]
    num_image_tokens: int
    linear_sigmas: bool = False
    prediction_type: PredictionType = "flow"

    def __post_init__(self) -> None:
        name = self.scheduler_config.get("_class_name")
        if name != "FlowMatchEulerDiscreteScheduler":
            raise CheckpointError(
                f"scheduler/scheduler_config.json: _class_name {name!r} is not supported with a "
                "flow-matching network; expected 'FlowMatchEulerDiscreteScheduler'"
            )
        if self.scheduler_config.get("invert_sigmas"):
            raise CheckpointError(
                "scheduler/scheduler_config.json: invert_sigmas true is not supported; expected "
                "false: noise levels that fall"
            )

    def levels(self, num_inference_steps: int, image_guidance: int = 0) -> tuple[NoiseLevel, ...]:
        """The levels a run at `image_guidance` percent visits, noisiest first, clean last.

        Returns:
            `num_denoising_steps + 1` levels; timesteps are sigma times the number of training
            timesteps, no integers in general.

        Raises:
            ConfigError: more steps than the schedule has timesteps.
        """
        kept = num_denoising_steps(num_inference_steps, image_guidance)
        timesteps, sigmas = self._grid(num_inference_steps)
        first = num_inference_steps - kept
        levels = [
            NoiseLevel(timestep=t, alpha=1 - sigma, sigma=sigma, progress=i / kept)
            for i, (t, sigma) in enumerate(zip(timesteps[first:], sigmas[first:-1], strict=True))
        ]
        end = NoiseLevel(timestep=0.0, alpha=1 - sigmas[-1], sigma=sigmas[-1], progress=1.0)
        return (*levels, end)

    def _grid(self, num_inference_steps: int) -> tuple[list[float], list[float]]:
        """Timesteps (N) and sigmas (N + 1) of the whole schedule, from a fresh scheduler."""
        from diffusers import FlowMatchEulerDiscreteScheduler
        from diffusers.pipelines.flux.pipeline_flux import calculate_shift

        # `set_timesteps` leaves its traces in a scheduler.
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(dict(self.scheduler_config))
        config = scheduler.config
        fewest, most = 2 if config.shift_terminal else 1, config.num_train_timesteps
        if not fewest <= num_inference_steps <= most:
            raise ConfigError("num_inference_steps", num_inference_steps, f"{fewest}..{most}")
        mu = None
        if config.use_dynamic_shifting:
            mu = calculate_shift(
                self.num_image_tokens,
                config.base_image_seq_len,
                config.max_image_seq_len,
                config.base_shift,
                config.max_shift,
            )
        sigmas = None
        if self.linear_sigmas:
            sigmas = np.linspace(1.0, 1 / num_inference_steps, num_inference_steps)
        scheduler.set_timesteps(num_inference_steps, sigmas=sigmas, mu=mu)
        return scheduler.timesteps.tolist(), scheduler.sigmas.tolist()
