"""Tensors that are worth keeping, up to a number of bytes: encoded sources, embedded prompts."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

from generators.backbones.base import Backbone, ImageConditioning
from generators.errors import ConfigError
from generators.program import Conditioning
from generators.records import NO_IMAGE_INPUTS, ImageInputs

K = TypeVar("K", bound=Hashable)
V = TypeVar("V", Tensor, Conditioning)

ROWS = 8
"""Rows encoded, embedded or decoded at once. In padded mode always exactly so many."""


class ByteCache(Generic[K, V]):
    """The least recently used values go first when the budget is exceeded.

    Args:
        max_bytes: of all values; >= 0. A single value larger than that is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < 0:
            raise ConfigError("max_bytes", max_bytes, "an integer >= 0")
        self.max_bytes, self.num_bytes = max_bytes, 0
        self._values: OrderedDict[K, V] = OrderedDict()

    def get(self, keys: Sequence[K], make: Callable[[list[K]], list[V]]) -> list[V]:
        """Values in the order of `keys`; those not kept are made, all in one call, each once."""
        wanted = list(dict.fromkeys(keys))
        found = {key: self._values[key] for key in wanted if key in self._values}
        missing = [key for key in wanted if key not in found]
        if missing:
            found.update(zip(missing, make(missing), strict=True))
        for key in wanted:
            self._keep(key, found[key])
        return [found[key] for key in keys]

    def __contains__(self, key: K) -> bool:
        return key in self._values

    def _keep(self, key: K, value: V) -> None:
        if key in self._values:
            self._values.move_to_end(key)
            return
        self._values[key] = value
        self.num_bytes += num_bytes(value)
        while self.num_bytes > self.max_bytes:
            _, dropped = self._values.popitem(last=False)
            self.num_bytes -= num_bytes(dropped)


def num_bytes(value: Tensor | Conditioning) -> int:
    """Of a tensor, or of a mapping of tensors."""
    parts = value.values() if isinstance(value, Mapping) else [value]
    return sum(part.numel() * part.element_size() for part in parts)


Read = Callable[[Sequence[str]], Tensor]
"""Keys to pixels (N, channels, H, W) in [-1, 1] on the backbone's device."""


class Encoder:
    """Encodes sources and prompts of one backbone, each once while the budget lasts.

    Args:
        backbone: whose encoders are used.
        max_bytes: kept on the backbone's device: half for what is made of sources, half for
            prompts.
        pad: encode sources in groups of one size and prompts one by one, so that a result does not
            depend on what else was encoded with it (see `Engine`).
    """

    def __init__(self, backbone: Backbone, max_bytes: int, *, pad: bool) -> None:
        self._backbone, self._pad = backbone, pad
        self._sources: ByteCache[str, Tensor] = ByteCache(max_bytes // 4)
        self._images: ByteCache[tuple[str, ImageInputs], Conditioning] = ByteCache(max_bytes // 4)
        self._prompts: ByteCache[tuple[str, str], Conditioning] = ByteCache(max_bytes // 2)

    def encode(self, keys: Sequence[str], read: Read) -> list[Tensor]:
        """Encoded sources, each (C, h, w), in the order of keys.

        Args:
            keys: what images are known by; equal keys are equal images.
            read: called for those that are not kept.
        """
        return self._sources.get(keys, lambda missing: self._grouped(missing, read))

    def lacking(self, keys: Sequence[str]) -> list[str]:
        """Which sources would have to be read now."""
        return [key for key in dict.fromkeys(keys) if key not in self._sources]

    @torch.inference_mode()
    def condition(self, prompts: Sequence[str], class_names: Sequence[str]) -> list[Conditioning]:
        """As `Backbone.condition`."""

        def make(missing: list[tuple[str, str]]) -> list[Conditioning]:
            # Backbones read a prompt once however often it is asked for, so that a group cannot be
            # padded with copies: alone, its shape is always the same.
            rows = 1 if self._pad else ROWS
            parts = [missing[start : start + rows] for start in range(0, len(missing), rows)]
            return [
                _owned(row)
                for part in parts
                for row in self._backbone.condition([p for p, _ in part], [c for _, c in part])
            ]

        return self._prompts.get(list(zip(prompts, class_names, strict=True)), make)

    @torch.inference_mode()
    def image_condition(
        self, keys: Sequence[str], inputs: Sequence[ImageInputs], read: Read
    ) -> list[ImageConditioning | None]:
        """As `Backbone.image_condition`, one a source; None where nothing is asked for."""

        def make(missing: list[tuple[str, ImageInputs]]) -> list[Conditioning]:
            pixels = read([key for key, _ in missing])
            made = [
                self._backbone.image_condition(image, wanted)
                for image, (_, wanted) in zip(pixels, missing, strict=True)
            ]
            return [_flat(image) for image in made]

        rows = list(zip(keys, inputs, strict=True))
        asked = [row for row in rows if row[1] != NO_IMAGE_INPUTS]
        found = dict(zip(asked, self._images.get(asked, make), strict=True)) if asked else {}
        return [_unflat(found[row]) if row in found else None for row in rows]

    @torch.inference_mode()
    def _grouped(self, keys: list[str], read: Read) -> list[Tensor]:
        made: list[Tensor] = []
        for start in range(0, len(keys), ROWS):
            pixels = read(keys[start : start + ROWS])
            rows = len(pixels)
            if self._pad and rows < ROWS:
                pixels = torch.cat([pixels, pixels[-1:].expand(ROWS - rows, -1, -1, -1)])
            made += [row.clone() for row in self._backbone.encode(pixels)[:rows]]
        return made


def _owned(cond: Conditioning) -> Conditioning:
    """Clones: a row that is a view would keep its whole group in memory."""
    return {name: value.clone() for name, value in cond.items()}


def _flat(image: ImageConditioning) -> Conditioning:
    """Both sides in one mapping, for the cache."""
    sides = (("cond", image.cond), ("uncond", image.uncond))
    return {f"{side}/{name}": value for side, cond in sides for name, value in cond.items()}


def _unflat(cond: Conditioning) -> ImageConditioning:
    sides: dict[str, dict[str, Tensor]] = {"cond": {}, "uncond": {}}
    for name, value in cond.items():
        side, _, key = name.partition("/")
        sides[side][key] = value
    return ImageConditioning(cond=sides["cond"], uncond=sides["uncond"])
