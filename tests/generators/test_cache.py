"""What is encoded once, and that nothing depends on what else was encoded with it."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from generators.backbones.base import ImageConditioning
from generators.backbones.toy import GaussianMixture
from generators.cache import ROWS, ByteCache, Encoder, num_bytes
from generators.errors import ConfigError
from generators.program import Conditioning
from generators.records import ImageInputs


def rows(keys: list[str]) -> list[Tensor]:
    return [torch.full((4,), float(len(key))) for key in keys]  # 16 bytes each


def test_each_value_is_made_once_while_the_budget_lasts() -> None:
    cache: ByteCache[str, Tensor] = ByteCache(48)
    asked: list[list[str]] = []

    def make(keys: list[str]) -> list[Tensor]:
        asked.append(keys)
        return rows(keys)

    found = cache.get(["a", "bb", "a"], make)
    assert [float(value[0]) for value in found] == [1, 2, 1]
    cache.get(["bb", "a"], make)
    assert asked == [["a", "bb"]]
    assert cache.num_bytes == 32


def test_the_least_recently_used_value_goes_first() -> None:
    cache: ByteCache[str, Tensor] = ByteCache(48)
    cache.get(["a", "b", "c"], rows)
    cache.get(["a"], rows)
    cache.get(["d"], rows)
    assert ["a" in cache, "b" in cache, "c" in cache, "d" in cache] == [True, False, True, True]
    assert cache.num_bytes == 48


def test_values_beyond_the_budget_are_given_but_not_kept() -> None:
    cache: ByteCache[str, Tensor] = ByteCache(0)
    (value,) = cache.get(["abc"], rows)
    assert float(value[0]) == 3
    assert "abc" not in cache
    assert cache.num_bytes == 0
    with pytest.raises(ConfigError, match="max_bytes: -1 is not allowed"):
        ByteCache(-1)


def test_bytes_of_mappings_are_added_up() -> None:
    cond = {"text": torch.zeros(1, 77, 8, dtype=torch.float16), "pooled": torch.zeros(1, 4)}
    assert num_bytes(cond) == 77 * 8 * 2 + 16


class Recording:
    """A mixture that writes down what its encoders are called with."""

    def __init__(self, mixture: GaussianMixture) -> None:
        self._mixture, self.device = mixture, mixture.device
        self.encoded: list[int] = []
        self.prompts: list[list[str]] = []
        self.images: list[ImageInputs] = []

    def encode(self, pixels: Tensor) -> Tensor:
        self.encoded.append(len(pixels))
        return pixels * 2

    def condition(self, prompts: Sequence[str], class_names: Sequence[str]) -> list[Conditioning]:
        self.prompts.append(list(prompts))
        return self._mixture.condition(prompts, class_names)

    def image_condition(self, pixels: Tensor, inputs: ImageInputs) -> ImageConditioning:
        self.images.append(inputs)
        return ImageConditioning(cond={"control": pixels[None]}, uncond={"control": -pixels[None]})


def read(keys: Sequence[str]) -> Tensor:
    return torch.stack([torch.full((1, 1, 2), float(key)) for key in keys])


@pytest.mark.parametrize("pad", [False, True])
def test_sources_are_encoded_once_in_groups(mixture: GaussianMixture, pad: bool) -> None:
    backbone = Recording(mixture)
    encoder = Encoder(backbone, 10**6, pad=pad)  # type: ignore[arg-type]
    keys = [str(i) for i in range(ROWS + 3)]

    found = encoder.encode([*keys, "1", "2"], read)
    again = encoder.encode(keys[::-1], read)

    assert [float(row[0, 0, 0]) for row in found] == [2.0 * i for i in range(ROWS + 3)] + [2, 4]
    assert all(a is b for a, b in zip(again[::-1], found[: ROWS + 3], strict=True))
    assert backbone.encoded == ([ROWS, ROWS] if pad else [ROWS, 3])
    assert encoder.lacking(["1", "99", "99"]) == ["99"]
    assert found[0].untyped_storage().nbytes() == found[0].nbytes  # no view of the whole group


def test_prompts_are_read_once_a_prompt_and_class(mixture: GaussianMixture) -> None:
    backbone = Recording(mixture)
    encoder = Encoder(backbone, 10**6, pad=False)  # type: ignore[arg-type]
    first = encoder.condition(["x", "x", "y"], ["left", "right", "left"])
    second = encoder.condition(["y"], ["left"])
    assert backbone.prompts == [["x", "x", "y"]]
    assert second[0] is first[2]
    assert torch.equal(first[0]["weights"], mixture.condition(["x"], ["left"])[0]["weights"])
    padded = Encoder(backbone, 10**6, pad=True)  # type: ignore[arg-type]
    assert len(padded.condition(["x", "y", "x"], ["left", "left", "left"])) == 3
    assert backbone.prompts[1:] == [["x"], ["y"]]


def test_image_inputs_are_made_once_and_only_where_asked(mixture: GaussianMixture) -> None:
    backbone = Recording(mixture)
    encoder = Encoder(backbone, 10**6, pad=False)  # type: ignore[arg-type]
    edges, nothing = ImageInputs(control="edges"), ImageInputs()
    for _ in range(2):
        first, second, third = encoder.image_condition(
            ["3", "3", "5"], [edges, nothing, edges], read
        )
        assert second is None
        assert first is not None
        assert third is not None
        assert float(first.cond["control"][0, 0, 0, 0]) == 3
        assert float(third.uncond["control"][0, 0, 0, 1]) == -5
    assert backbone.images == [edges, edges]
    assert encoder.image_condition(["3"], [nothing], read) == [None]
