"""Noise schedules: x_t = alpha * x_0 + sigma * eps. Knows nothing of networks or samplers.

Sources: Ho et al. 2020, arXiv:2006.11239 (Eq. 4); Song et al. 2020, arXiv:2010.02502 (respacing);
Lin et al. 2023, arXiv:2305.08891 (trailing spacing, table 2).
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from torch import Tensor

from generators.errors import ConfigError
from generators.records import num_denoising_steps

PredictionType = Literal["epsilon", "sample", "v_prediction", "flow"]
TimestepSpacing = Literal["leading", "trailing", "linspace"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseLevel:
    """One point of a schedule.

    Attributes:
        timestep: in the network's own units.
        alpha: signal scale, in [0, 1].
        sigma: noise scale, >= 0.
        progress: 0 at this run's first step, 1 at its end.
    """

    timestep: float
    alpha: float
    sigma: float
    progress: float


class Predicting(Protocol):
    """What is known of any trained network."""

    @property
    def prediction_type(self) -> PredictionType:
        """What the network outputs."""


class Schedule(Predicting, Protocol):
    """The noise levels of a trained network."""

    def levels(self, num_inference_steps: int, image_guidance: int = 0) -> tuple[NoiseLevel, ...]:
        """The levels a run visits, noisiest first; the last one is the result's.

        Raises:
            ConfigError: more steps than the schedule has.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class NoiseSchedule:
    """Noise levels at integer timesteps: DDPM and everything trained like it.

    Attributes:
        alphas: (T,) float64, signal scale per training timestep.
        sigmas: (T,) float64, noise scale per training timestep.
        prediction_type: what the network outputs.
        timestep_spacing: how inference steps are chosen among the T.
        steps_offset: added to every timestep of `leading` spacing.
        final_alpha: signal scale after the last step; 1 unless the checkpoint says otherwise.
    """

    alphas: Tensor
    sigmas: Tensor
    prediction_type: PredictionType
    timestep_spacing: TimestepSpacing = "trailing"
    steps_offset: int = 0
    final_alpha: float = 1.0

    @classmethod
    def from_alphas_cumprod(
        cls,
        alphas_cumprod: Tensor,
        prediction_type: PredictionType,
        *,
        timestep_spacing: TimestepSpacing = "trailing",
        steps_offset: int = 0,
        set_alpha_to_one: bool = True,
    ) -> "NoiseSchedule":
        """A variance-preserving schedule from cumulative alphas, (T,), falling from 1 to 0."""
        cumulative = alphas_cumprod.double()
        return cls(
            alphas=cumulative.sqrt(),
            sigmas=(1 - cumulative).sqrt(),
            prediction_type=prediction_type,
            timestep_spacing=timestep_spacing,
            steps_offset=steps_offset,
            final_alpha=1.0 if set_alpha_to_one else float(cumulative[0].sqrt()),
        )

    def levels(self, num_inference_steps: int, image_guidance: int = 0) -> tuple[NoiseLevel, ...]:
        """The levels a run at `image_guidance` percent visits, noisiest first, clean last.

        Returns:
            `num_denoising_steps + 1` levels; the last one is the result's (alpha 1, sigma 0 unless
            the checkpoint has a final alpha of its own).

        Raises:
            ConfigError: more steps than the schedule has timesteps.
        """
        count = len(self.alphas)
        if not 1 <= num_inference_steps <= count:
            raise ConfigError("num_inference_steps", num_inference_steps, f"1..{count}")
        kept = num_denoising_steps(num_inference_steps, image_guidance)
        chosen = self._timesteps(num_inference_steps)[num_inference_steps - kept :]
        levels = [
            NoiseLevel(
                timestep=float(t),
                alpha=float(self.alphas[t]),
                sigma=float(self.sigmas[t]),
                progress=i / kept,
            )
            for i, t in enumerate(chosen)
        ]
        final_sigma = (1 - self.final_alpha**2) ** 0.5
        end = NoiseLevel(timestep=0.0, alpha=self.final_alpha, sigma=final_sigma, progress=1.0)
        return (*levels, end)

    def _timesteps(self, num_inference_steps: int) -> list[int]:
        """Falling integer timesteps, the same ones diffusers' schedulers choose."""
        count = len(self.alphas)
        if self.timestep_spacing == "leading":
            ratio = count // num_inference_steps
            steps = [i * ratio + self.steps_offset for i in range(num_inference_steps)][::-1]
        elif self.timestep_spacing == "trailing":
            # numpy's own grid: the last bit of its steps decides how ties round.
            grid = np.arange(count, 0, -count / num_inference_steps)[:num_inference_steps]
            steps = [int(step) - 1 for step in grid.round()]
        else:
            grid = np.linspace(0, count - 1, num_inference_steps)
            steps = [int(step) for step in grid.round()[::-1]]
        return [min(max(step, 0), count - 1) for step in steps]
