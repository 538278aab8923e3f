"""Reads the noise schedule of a diffusers scheduler config, whichever scheduler wrote it.

Schedulers of the DDPM kind visit integer timesteps; those of the DPM-Solver and Euler kind space
noise levels of their own. What a scheduler does with a prediction is a sampler's affair.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from generators.errors import CheckpointError, ConfigError, one_of
from generators.noise import NoiseLevel, NoiseSchedule, PredictionType, Schedule
from generators.records import num_denoising_steps

ON_TIMESTEPS: Final = frozenset(
    {
        "DDIMParallelScheduler",
        "DDIMScheduler",
        "DDPMParallelScheduler",
        "DDPMScheduler",
        "PNDMScheduler",
        # Of second order, each level twice in their lists: what they visit is the table's spacing.
        "HeunDiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler",
        "KDPM2DiscreteScheduler",
    }
)
ON_SIGMAS: Final = frozenset(
    {
        "DEISMultistepScheduler",
        "DPMSolverMultistepScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "LMSDiscreteScheduler",
        "UniPCMultistepScheduler",
    }
)
PREDICTION_TYPES: Final = ("epsilon", "sample", "v_prediction")
WHERE: Final = "scheduler_config.json"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SigmaSchedule:
    """The levels that a scheduler with sigmas of its own visits. Satisfies `Schedule`.

    Its sigma is noise over signal (Karras et al. 2022, arXiv:2206.00364); here alpha is
    1 / sqrt(1 + sigma^2) and alpha * sigma the noise scale: the same image but for its scale. A
    free generation starts from unit noise, where Euler's pipelines start from `sigmas[0]`'s.

    Attributes:
        scheduler_config: of the checkpoint, with `_class_name`.
        prediction_type: what the network outputs.
    """

    scheduler_config: Mapping[str, Any]
    prediction_type: PredictionType

    def levels(self, num_inference_steps: int, image_guidance: int = 0) -> tuple[NoiseLevel, ...]:
        """The levels a run at `image_guidance` percent visits, noisiest first, clean last.

        Raises:
            ConfigError: more steps than the schedule has timesteps.
        """
        scheduler = _scheduler(self.scheduler_config)  # fresh: `set_timesteps` leaves its traces
        most = scheduler.config.num_train_timesteps
        if not 1 <= num_inference_steps <= most:
            raise ConfigError("num_inference_steps", num_inference_steps, f"1..{most}")
        scheduler.set_timesteps(num_inference_steps)
        kept = num_denoising_steps(num_inference_steps, image_guidance)
        timesteps, sigmas = scheduler.timesteps.tolist(), scheduler.sigmas.tolist()
        first = len(timesteps) - kept
        points = [*zip(timesteps[first:], sigmas[first:-1], strict=True), (0.0, sigmas[-1])]
        return tuple(
            NoiseLevel(
                timestep=float(timestep),
                alpha=(1 + sigma**2) ** -0.5,
                sigma=sigma * (1 + sigma**2) ** -0.5,
                progress=index / kept if kept else 1.0,
            )
            for index, (timestep, sigma) in enumerate(points)
        )


def read_schedule(config: Mapping[str, Any]) -> Schedule:
    """The noise schedule of a scheduler's config, `_class_name` included.

    Raises:
        CheckpointError: a scheduler without a variance-preserving table, or a prediction type that
            no denoiser of noise has.
    """
    from diffusers import DDIMScheduler

    # Its own class fills in what an old or a hand-written config leaves out; DDIM must not fill in
    # defaults of its own instead, which is what that entry asks for.
    filled = {k: v for k, v in _scheduler(config).config.items() if k != "_use_default_values"}
    prediction_type = filled["prediction_type"]
    if prediction_type not in PREDICTION_TYPES or filled.get("use_flow_sigmas"):
        raise CheckpointError(
            f"{WHERE}: prediction_type {prediction_type!r} is not supported; expected "
            f"{one_of(PREDICTION_TYPES)}, and no use_flow_sigmas"
        )
    if _name(config) in ON_SIGMAS:
        return SigmaSchedule(scheduler_config=config, prediction_type=prediction_type)
    table = DDIMScheduler.from_config(filled)
    return NoiseSchedule.from_alphas_cumprod(
        table.alphas_cumprod,
        table.config.prediction_type,
        timestep_spacing=table.config.timestep_spacing,
        steps_offset=table.config.steps_offset,
        set_alpha_to_one=table.config.set_alpha_to_one,
    )


def check_scheduler(config: Mapping[str, Any]) -> None:
    """Raises CheckpointError for a class that `read_schedule` does not know; imports nothing."""
    name, known = _name(config), ON_TIMESTEPS | ON_SIGMAS
    if name not in known:
        raise CheckpointError(
            f"{WHERE}: _class_name {name!r} is not supported; expected {one_of(known, name)}"
        )


def _name(config: Mapping[str, Any]) -> str:
    """Configs of the first diffusers releases, and hand-written ones, name no class: DDIM's."""
    return str(config.get("_class_name", "DDIMScheduler"))


def _scheduler(config: Mapping[str, Any]) -> Any:
    """A fresh scheduler of the config's own class."""
    check_scheduler(config)
    return getattr(importlib.import_module("diffusers"), _name(config)).from_config(dict(config))
