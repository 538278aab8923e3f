"""The protocol of the filter family: judges of synthetic images.

A judge scores images beside their sources and, apart from that, says whether a row of scores is
good enough: scoring needs a network, refusing needs only the numbers of the manifest, so thresholds
can be changed without looking at an image again.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from generators.classifiers import embed, with_channels

LOW_CLASS_PROBABILITY = "low_class_probability"
LOW_TEXT_SIMILARITY = "low_text_similarity"
FAR_FROM_SOURCE = "far_from_source"
TOO_CLOSE_TO_SOURCE = "too_close_to_source"
UNSAFE_CONTENT = "unsafe_content"
SCORE_NOT_FINITE = "score_not_finite"

CHUNK: Final = 64
"""Images a judge looks at together: memory does not grow with the number of rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeContext:
    """What a run gives its judges.

    Attributes:
        class_names: the data set's classes, in the order of the labels.
        classifier: file of the run's own real-data classifier, None where none was trained.
        device: where networks run.
    """

    class_names: tuple[str, ...]
    classifier: Path | None
    device: str


class LoadedJudge(Protocol):
    """A judge with its network in memory."""

    def score(self, pixels: Tensor, sources: Tensor, labels: Tensor) -> Mapping[str, Tensor]:
        """Scores images; a row's scores do not depend on the other rows.

        Args:
            pixels: (N, C, H, W) uint8, C 1 or 3.
            sources: the real image of each row, of the same shape and type.
            labels: (N,) int64, the class each image should show.

        Returns:
            Column to (N,) float32 on the CPU, for every column of the judge.
        """


class Judge(Protocol):
    """A judge's parameters. Pickles; holds no tensors."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The scores it writes."""

    def load(self, context: JudgeContext) -> LoadedJudge:
        """Loads the network; raises CheckpointError or ConfigError with what is wrong."""

    def refuse(self, scores: Mapping[str, float]) -> str:
        """The reason code for refusing an image with these scores, empty when it is accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """An accepted range of one score, both ends included.

    Attributes:
        column: the score.
        lowest: accepted from here.
        highest: accepted up to here.
        too_low: reason code below `lowest`.
        too_high: reason code above `highest`.
    """

    column: str
    lowest: float = -math.inf
    highest: float = math.inf
    too_low: str = ""
    too_high: str = ""


def first_refusal(bounds: Iterable[Bound], scores: Mapping[str, float]) -> str:
    """The reason code of the first bound that its score breaks; a score not finite is refused."""
    for bound in bounds:
        score = scores[bound.column]
        if not math.isfinite(score):
            return SCORE_NOT_FINITE
        if score < bound.lowest:
            return bound.too_low
        if score > bound.highest:
            return bound.too_high
    return ""


def source_bound(column: str, lowest: float, highest: float) -> Bound:
    """The accepted likeness of an image to its source."""
    return Bound(
        column=column,
        lowest=lowest,
        highest=highest,
        too_low=FAR_FROM_SOURCE,
        too_high=TOO_CLOSE_TO_SOURCE,
    )


def chunks(*rows: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same rows of every tensor, at most CHUNK at a time."""
    for start in range(0, len(rows[0]), CHUNK):
        yield tuple(tensor[start : start + CHUNK] for tensor in rows)


def as_images(pixels: Tensor, channels: int) -> Tensor:
    """(N, C, H, W) uint8 to floats in [0, 1] with `channels` channels (luma of ITU-R BT.601)."""
    return with_channels(pixels.float() / 255, channels)


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Cosine similarity of rows, (N,), clamped to [-1, 1]: rounding can leave the range."""
    return functional.cosine_similarity(first.float(), second.float()).clamp(-1, 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassifierScorer:
    """Scores with any image classifier: probability of the class, likeness to the source.

    Attributes:
        network: `forward_features` and `forward_head(x, pre_logits)` as timm's.
        prepare: (N, C, H, W) uint8 to the network's inputs.
        columns: names of the two scores.
        class_of_output: (num_outputs, num_classes), 1 where an output speaks for a class.
        device: where the network is.
    """

    network: Any
    prepare: Callable[[Tensor], Tensor]
    columns: tuple[str, str]
    class_of_output: Tensor
    device: str

    @torch.inference_mode()
    def score(self, pixels: Tensor, sources: Tensor, labels: Tensor) -> Mapping[str, Tensor]:
        """Softmax probability of each label; cosine of the features before the head."""
        parts = [torch.zeros(2, 0)]
        for images, real, classes in chunks(pixels, sources, labels):
            made, logits = embed(self.network, self.prepare(images.to(self.device)))
            found, _ = embed(self.network, self.prepare(real.to(self.device)))
            by_class = logits.float().softmax(1) @ self.class_of_output.to(self.device)
            probability = by_class.gather(1, classes.to(self.device)[:, None])[:, 0]
            parts.append(torch.stack([probability, cosine(made, found)]).cpu())
        scores = torch.cat(parts, dim=1)
        return dict(zip(self.columns, scores, strict=True))
