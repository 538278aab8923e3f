"""Composable Diffusion (Liu et al. 2022, arXiv:2206.01714, Eq. 11, 13): AND, NOT of conditions."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from pydantic import Field
from torch import Tensor

from generators.errors import ConfigError
from generators.guidance.base import Card, Guidance, Target, add_direction
from generators.models import Models
from generators.noise import NoiseLevel
from generators.program import Denoiser, ModelCall, Prediction, Program, ask, gather

AT = "generation.guidance.conditions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition beside the request's own.

    Attributes:
        weight: of its direction; below 0 negates it.
        class_name: a class of the data set; none: the request's own, for networks that read text.
        prompt: instead of the run's prompt of the class, for networks that read text.
    """

    weight: Annotated[float, Field(ge=-100, le=100)]
    class_name: str | None = None
    prompt: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComposableDiffusion(Guidance):
    """eps_u + sum of w_i (eps_i - eps_u): several classes or prompts at once, or without one.

    Sums of scores are the score of the product only where the conditions are independent given the
    image; a negation has no bound and can lead off the images there are.

    Attributes:
        guidance_scale: weight of the request's own class and prompt.
        conditions: the others.
    """

    card: ClassVar = Card(
        role="contrast",
        paper="Liu et al. 2022, arXiv:2206.01714",
        cost="2 evaluations and 1 a condition",
    )

    guidance_scale: Annotated[float, Field(ge=0, le=100)] = 2.0
    conditions: tuple[Condition, ...] = ()

    @property
    def needs_unconditional(self) -> bool:
        """Unless the weights sum to one without it, which nobody relies on."""
        return not self._is_plain

    @property
    def _is_plain(self) -> bool:
        return self.guidance_scale == 1 and not self._others

    @property
    def _others(self) -> tuple[Condition, ...]:
        return tuple(each for each in self.conditions if each.weight != 0)

    @property
    def calls_per_step(self) -> float:
        """One for each condition that has a weight, and the unconditional one."""
        own = 0.0 if self.guidance_scale == 0 else 1.0
        return own + len(self._others) + (0.0 if self._is_plain else 1.0)

    def check(self, models: Models) -> None:
        """Raises ConfigError for a class there is not, or a prompt where no text is read."""
        if self.needs_unconditional:
            models.unconditional()
        for index, each in enumerate(self.conditions):
            if each.class_name is None and each.prompt is None:
                raise ConfigError(f"{AT}.{index}", None, "a class_name or a prompt")
            if each.prompt is not None and models.backbone.class_names is not None:
                allowed = "none: this network is conditioned on classes, not on text"
                raise ConfigError(f"{AT}.{index}.prompt", each.prompt, allowed)
            if each.class_name is not None:
                models.label(each.class_name, f"{AT}.{index}.class_name")
                models.condition(each.class_name, each.prompt)

    def denoiser(self, target: Target) -> Denoiser:
        """Eq. 11 and 13 in diffusers' convention of scales."""
        weights, conditionings = [self.guidance_scale], [target.cond]
        for each in self._others:
            weights.append(each.weight)
            conditionings.append(target.condition_of(each.class_name or "", each.prompt))

        def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
            if self._is_plain:
                return (yield from target.conditional(x_t, level))
            asked = [
                (weight, ask(ModelCall(x_t=x_t, level=level, cond=cond)))
                for weight, cond in zip(weights, conditionings, strict=True)
                if weight != 0
            ]
            no, *found = yield from gather(
                target.unconditional(x_t, level), *(program for _, program in asked)
            )
            mixed = no
            for (weight, _), each in zip(asked, found, strict=True):
                mixed = add_direction(mixed, no, each, weight)
            return mixed

        return denoise


METHOD: Final[type[Guidance]] = ComposableDiffusion
