"""Regions with classes of their own, after SpaText (Avrahami et al. 2023, arXiv:2211.14305)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from generators.checkpoint_places import local_checkpoint
from generators.errors import CheckpointError, ConfigError
from generators.guidance.base import Card, Guidance, Target, add_direction, extrapolate
from generators.models import Models
from generators.noise import NoiseLevel
from generators.program import Denoiser, ModelCall, Prediction, Program, ask, gather

AT = "generation.guidance.regions"
Edge = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """One region and what it shall show.

    Attributes:
        class_name: a class of the data set; none: the request's own.
        prompt: instead of the run's prompt of the class, for networks that read text.
        weight: of its direction, within.
        box: left, top, right, bottom as shares of the image; none: a mask.
        mask: a gray image of the generator's size, white within.
    """

    class_name: str | None = None
    prompt: str | None = None
    weight: Annotated[float, Field(ge=-100, le=100)] = 2.0
    box: tuple[Edge, Edge, Edge, Edge] | None = None
    mask: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpatialGuidance(Guidance):
    """eps_u + s (eps_c - eps_u) + sum of w_i m_i (eps_i - eps_u), with m_i the region's mask.

    The multi-conditional form: every region has a scale and costs an evaluation. SpaText's network
    is shown the map itself; here the map says where a direction counts, for any network. The fast
    form reads the request's prompt and those of all regions as one, with one scale and without
    masks: two evaluations, and which region is which is left to the network.

    Attributes:
        guidance_scale: s, of the request's own class and prompt, everywhere.
        regions: the others.
        fast: the fast form, for networks that read text.
    """

    card: ClassVar = Card(
        role="contrast",
        paper="Avrahami et al. 2023, arXiv:2211.14305",
        cost="2 evaluations and 1 a region; 2 if fast",
    )

    guidance_scale: Annotated[float, Field(ge=0, le=100)] = 2.0
    regions: tuple[Region, ...] = ()
    fast: bool = False

    @property
    def needs_unconditional(self) -> bool:
        """Unless it is the conditional prediction alone."""
        return self.guidance_scale != 1 or bool(self._weighted)

    @property
    def _weighted(self) -> tuple[Region, ...]:
        return tuple(region for region in self.regions if region.weight != 0)

    @property
    def calls_per_step(self) -> float:
        """One a region, but for the fast form."""
        if not self.needs_unconditional:
            return 1.0
        return 2.0 + (0 if self.fast else len(self._weighted))

    @property
    def files(self) -> tuple[str, ...]:
        """The masks."""
        return tuple(region.mask for region in self.regions if region.mask is not None)

    def check(self, models: Models) -> None:
        """Raises ConfigError for an empty box, a mask of another size, or a class there is not."""
        if self.needs_unconditional:
            models.unconditional()
        reads_text = models.backbone.class_names is None
        if self.fast and not reads_text:
            allowed = "false: this network is conditioned on one class, and cannot read several"
            raise ConfigError("generation.guidance.fast", True, allowed)
        for index, region in enumerate(self.regions):
            at = f"{AT}.{index}"
            if region.prompt is not None and not reads_text:
                allowed = "none: this network is conditioned on classes, not on text"
                raise ConfigError(f"{at}.prompt", region.prompt, allowed)
            if region.class_name is not None:
                models.label(region.class_name, f"{at}.class_name")
            mask_of(models, region, at)

    def denoiser(self, target: Target) -> Denoiser:
        """Adds the regions' directions to classifier-free guidance."""
        if not self.needs_unconditional:
            return target.conditional
        if self.fast:
            return self._joint(target)
        own = target.models.class_names[target.label]
        added = [
            (
                region.weight * mask_of(target.models, region, AT),
                target.condition_of(region.class_name or own, region.prompt),
            )
            for region in self._weighted
        ]

        def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
            no, yes, *found = yield from gather(
                target.unconditional(x_t, level),
                target.conditional(x_t, level),
                *(ask(ModelCall(x_t=x_t, level=level, cond=cond)) for _, cond in added),
            )
            mixed = extrapolate(no, yes, self.guidance_scale)
            for (weight, _), each in zip(added, found, strict=True):
                mixed = add_direction(mixed, no, each, weight)
            return mixed

        return denoise

    def _joint(self, target: Target) -> Denoiser:
        models, name = target.models, target.models.class_names[target.label]
        texts = [models.prompt.format(class_name=name)]
        for region in self._weighted:
            own = models.prompt.format(class_name=region.class_name or name)
            texts.append(own if region.prompt is None else region.prompt)
        cond = target.condition_of(name, ", ".join(texts))

        def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
            no, yes = yield from gather(
                target.unconditional(x_t, level),
                ask(ModelCall(x_t=x_t, level=level, cond=cond)),
            )
            return extrapolate(no, yes, self.guidance_scale)

        return denoise


def mask_of(models: Models, region: Region, at: str) -> Tensor:
    """(1, h, w) in 0..1: how much of each place of a sample is within.

    Raises:
        ConfigError: neither or both of box and mask, an empty box, or a mask of another size.
        CheckpointError: a mask that is no image.
    """
    if (region.box is None) == (region.mask is None):
        raise ConfigError(f"{at}.box", region.box, "a box or a mask, one of them")
    return models.keep(("mask", region.box, region.mask), lambda: _make_mask(models, region, at))


def _make_mask(models: Models, region: Region, at: str) -> Tensor:
    height, width = models.backbone.pixel_shape[1:]
    if region.mask is not None:
        pixels = _read_mask(region.mask, (height, width), f"{at}.mask")
    else:
        assert region.box is not None
        left, top, right, bottom = region.box
        if left >= right or top >= bottom:
            allowed = "left, top, right, bottom with left < right and top < bottom"
            raise ConfigError(f"{at}.box", list(region.box), allowed)
        pixels = _cover(top, bottom, height)[:, None] * _cover(left, right, width)[None]
    shape = models.backbone.sample_shape
    mask = functional.adaptive_avg_pool2d(pixels[None], (shape[1], shape[2]))
    return mask.to(models.backbone.device)


def _cover(start: float, end: float, count: int) -> Tensor:
    """(count,): how much of each of `count` equal parts of 0..1 is between two places."""
    edges = torch.linspace(0, 1, count + 1)
    inside = torch.minimum(edges[1:], torch.tensor(end)) - edges[:-1].clamp_min(start)
    return (inside * count).clamp(0, 1)


def _read_mask(path: str, size: tuple[int, int], at: str) -> Tensor:
    try:
        with Image.open(local_checkpoint(path, at)) as image:
            found = np.asarray(image.convert("L"), dtype=np.float32) / 255
    except (OSError, UnidentifiedImageError) as error:
        raise CheckpointError(f"{at}: {path} is not a readable image: {error}") from error
    if found.shape != size:
        allowed = f"a mask of the generator's size, {size[1]} wide and {size[0]} high"
        raise ConfigError(at, f"{path} ({found.shape[1]}x{found.shape[0]})", allowed)
    return torch.from_numpy(found.copy())


METHOD: Final[type[Guidance]] = SpatialGuidance
