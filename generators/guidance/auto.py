"""Autoguidance (Karras et al. 2024, arXiv:2406.02507, Eq. 3): away from a worse network."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import torch
from pydantic import Field
from torch import Tensor

from generators.backbones.base import Backbone
from generators.backbones.pixel_unet import SHIPPED
from generators.errors import ConfigError, one_of
from generators.guidance.base import Card, Guidance, Target, extrapolate
from generators.models import Models
from generators.noise import NoiseLevel, NoiseSchedule
from generators.program import Denoiser, ModelCall, Prediction, Program, ask, gather
from generators.registry import JsonValue, MethodSpec, build

AT = "generation.guidance.weak"


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoGuidance(Guidance):
    """D_bad + w (D_good - D_bad): the bad one is a smaller or an earlier checkpoint.

    Both are given the same class; what they get wrong in the same direction is undone, and variety
    stays. The worse network must have the same kind of flaws: of the same data and architecture,
    with fewer steps or channels.

    Attributes:
        weak: its backbone, as in `generation.backbone`.
        guidance_scale: w; 1 is the good network alone.
    """

    card: ClassVar = Card(
        role="term",
        paper="Karras et al. 2024, arXiv:2406.02507",
        cost="1 evaluation of each network",
    )

    weak: dict[str, JsonValue]
    guidance_scale: Annotated[float, Field(ge=0, le=100)] = 2.0

    def __post_init__(self) -> None:
        """Raises ConfigError for a weak network without a name."""
        if not isinstance(self.weak.get("name"), str):
            raise ConfigError("weak", self.weak, "a backbone: {name: ..., parameters}")

    @property
    def calls_per_step(self) -> float:
        """One of each network."""
        return 1.0 if self.guidance_scale == 1 else 2.0

    @property
    def files(self) -> tuple[str, ...]:
        """The folder of the weak network; those that ship with the package need none."""
        path = self.weak.get("path")
        return (path,) if isinstance(path, str) and not (SHIPPED / path).is_dir() else ()

    def check(self, models: Models) -> None:
        """Raises ConfigError for a network of other samples, classes or noise levels."""
        weak, good = self._open(models), models.backbone
        if weak.sample_shape != good.sample_shape:
            allowed = f"a network of samples {good.sample_shape}"
            raise ConfigError(AT, weak.sample_shape, allowed)
        if weak.class_names is not None:
            for name in models.class_names:
                if name not in weak.class_names:
                    allowed = f"a network that knows {name!r}; it knows {one_of(weak.class_names)}"
                    raise ConfigError(AT, self.weak, allowed)
        if not _same_levels(weak, good):
            allowed = "a network trained on the same noise levels at the same timesteps"
            raise ConfigError(AT, self.weak, allowed)

    def _open(self, models: Models) -> Backbone:
        params = {name: value for name, value in self.weak.items() if name != "name"}
        spec = MethodSpec(name=self.weak["name"], params=params)

        def load() -> Backbone:
            found: Backbone = build("backbone", spec, AT).load(str(models.backbone.device))
            return found

        return models.keep(("auto", str(spec.as_json())), load)

    def denoiser(self, target: Target) -> Denoiser:
        """Extrapolates from the weak network through the good one."""
        if self.guidance_scale == 1:
            return target.conditional
        models = target.models
        weak = self._open(models)
        name = models.class_names[target.label]
        cond = models.keep(
            ("auto", weak, name),
            lambda: weak.condition([models.prompt.format(class_name=name)], [name])[0],
        )

        def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
            bad, good = yield from gather(
                ask(ModelCall(x_t=x_t, level=level, cond=cond, network=weak)),
                target.conditional(x_t, level),
            )
            return extrapolate(bad, good, self.guidance_scale)

        return denoise


def _same_levels(one: Backbone, other: Backbone) -> bool:
    """Whether a timestep means the same noise to both."""
    mine, theirs = one.schedule, other.schedule
    if isinstance(mine, NoiseSchedule) and isinstance(theirs, NoiseSchedule):
        same = mine.alphas.shape == theirs.alphas.shape
        return same and torch.allclose(mine.alphas, theirs.alphas, atol=1e-4)
    seen = [
        [(level.timestep, level.alpha) for level in schedule.levels(4)[:-1]]
        for schedule in (mine, theirs)
    ]
    return torch.allclose(torch.tensor(seen[0]), torch.tensor(seen[1]), rtol=1e-3, atol=1e-4)


METHOD: Final[type[Guidance]] = AutoGuidance
