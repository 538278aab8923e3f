"""LinearAG (Castillo et al. 2023, arXiv:2312.12487, Sec. 5): predicts what it does not evaluate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from pydantic import Field
from torch import Tensor

from generators.errors import ConfigError
from generators.guidance.base import Card, Guidance, Target, extrapolate, shift
from generators.guidance_fits.linear_adaptive import combine, is_predicted
from generators.models import Models
from generators.noise import NoiseLevel
from generators.program import Denoiser, Prediction, Program, gather
from generators.steering.fit_file import FitFile, open_fit

AT = "generation.guidance.coefficients"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearAdaptive(Guidance):
    """Every second unconditional prediction of the first half is a sum of earlier predictions.

    The second half is not guided. Of 2 N evaluations about 1.25 N are left.

    Attributes:
        guidance_scale: w, as `cfg`; that of the fit. 1 is the conditional prediction, without fit.
        coefficients: a file of `discl fit-guidance linear_adaptive`.
    """

    card: ClassVar = Card(
        role="contrast",
        paper="Castillo et al. 2023, arXiv:2312.12487",
        cost="2 evaluations in a quarter of the steps, 1 in the others",
        samplers=("ddim",),
    )

    coefficients: str
    guidance_scale: Annotated[float, Field(ge=1, le=100)] = 2.0

    @property
    def needs_unconditional(self) -> bool:
        """Scale 1 is the conditional prediction alone."""
        return self.guidance_scale != 1

    @property
    def calls_per_step(self) -> float:
        """A quarter of the steps costs two; of two steps one does."""
        return 1.0 if self.guidance_scale == 1 else 1.5

    @property
    def files(self) -> tuple[str, ...]:
        """The coefficients."""
        return () if self.guidance_scale == 1 else (self.coefficients,)

    def check(self, models: Models) -> None:
        """Raises ConfigError for a fit of another scale, other steps or other levels."""
        if self.guidance_scale == 1:
            return
        models.unconditional()
        fit = open_fit(models, self.coefficients, "linear_adaptive", AT)
        fitted = fit.details["guidance_scale"]
        if fitted != self.guidance_scale:
            allowed = f"{fitted}, which the coefficients were fitted for"
            raise ConfigError("generation.guidance.guidance_scale", self.guidance_scale, allowed)
        for walk in models.walks:
            coefficients_of(fit, walk, self.coefficients)

    def denoiser(self, target: Target) -> Denoiser:
        """CFG where the unconditional prediction is evaluated or predicted."""
        if self.guidance_scale == 1:
            return target.conditional
        fit = open_fit(target.models, self.coefficients, "linear_adaptive", AT)
        table = coefficients_of(fit, target.walk, self.coefficients)
        seen: list[Tensor] = []
        missing: list[Tensor] = []

        def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
            k, steps = len(seen), len(table)
            if k >= steps // 2:
                return (yield from target.conditional(x_t, level))
            if is_predicted(k, steps):
                yes = yield from target.conditional(x_t, level)
                seen.append(yes.eps)
                missing.append(combine(table[k], seen, missing))
                change = (self.guidance_scale - 1) * (yes.eps - missing[-1])
                return shift(yes, change, level)
            no, yes = yield from gather(
                target.unconditional(x_t, level), target.conditional(x_t, level)
            )
            seen.append(yes.eps)
            missing.append(no.eps)
            return extrapolate(no, yes, self.guidance_scale)

        return denoise


def coefficients_of(fit: FitFile, walk: Sequence[NoiseLevel], path: str) -> Tensor:
    """(steps, 2, steps) for a run through some levels.

    Raises:
        ConfigError: there are none.
    """
    wanted = [level.timestep for level in walk[:-1]]
    for index, known in enumerate(fit.details["walks"]):
        if known["timesteps"] == wanted:
            return fit.tensors[f"coefficients.{index}"].cpu()  # read by the host at every step
    allowed = f"a fit for runs of {len(wanted)} steps from timestep {wanted[:1]}; fit it again"
    raise ConfigError(AT, path, allowed)


METHOD: Final[type[Guidance]] = LinearAdaptive
