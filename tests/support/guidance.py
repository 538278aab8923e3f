"""What the tests of guidance methods share: the laws each one states of itself, and targets."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from generators.backbones.base import Backbone
from generators.guidance.base import Target
from generators.models import Models
from generators.registry import MethodSpec

Params = dict[str, Any]
NONE = MethodSpec(name="none")


@dataclass(frozen=True, kw_only=True)
class Laws:
    """What `tests/contracts/test_guidance_laws.py` needs to know of a method.

    A module `tests/generators/guidance/test_<method>.py` has one, called `LAWS`.

    Attributes:
        grid: parameter sets that are mixed in one batch; files they name go into the folder.
        off: parameters at which it does nothing; None where there are none.
        off_equals: what it is then, bit for bit.
        backbones: fixtures that it works on.
    """

    grid: Callable[[Backbone, Path], list[Params]]
    off: Callable[[Backbone, Path], Params] | None
    off_equals: MethodSpec = NONE
    backbones: tuple[str, ...] = ("mixture", "tiny_unet")


def given(*grid: Params) -> Callable[[Backbone, Path], list[Params]]:
    """Parameter sets that depend on nothing."""
    return lambda backbone, folder: list(grid)


def target_of(
    backbone: Backbone, label: int = 1, source: Any = None, models: Models | None = None
) -> Target:
    """A target of a class of the backbone."""
    models = models or Models(backbone)
    return Target(
        cond=models.condition(models.class_names[label]),
        uncond=models.unconditional(),
        label=label,
        source=source,
        models=models,
    )
