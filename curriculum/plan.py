"""What to generate: hard images x image-guidance levels x seeds. Makes no image, knows no network.

A plan is columnar (a few bytes an image), so ten million requests fit in memory; a request is made
from its row only when it is needed.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from generators.errors import ConfigError, DataError
from generators.records import NO_IMAGE_INPUTS, RESULT_VERSION, GenerationRequest, ImageInputs
from generators.registry import MethodSpec, canonical_json

NumSteps = Callable[[int, int], int]
"""(num_inference_steps, image_guidance) to the steps that are run: a backbone's `num_steps`."""

OWN_FIELDS = ["seed", "source_key", "source_sha256", "version"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SourceImages:
    """The hard real images that are multiplied.

    Attributes:
        keys: (N,) source keys.
        sha256: (N,) of the stored bytes.
        labels: (N,) int64.
    """

    keys: Sequence[str]
    sha256: Sequence[str]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTemplate:
    """What all requests of a plan have in common.

    Attributes:
        class_names: by label.
        prompt: with `{class_name}` in it.
        num_inference_steps: steps of the full schedule.
        guidance: method of all requests, or of those that `variants` says nothing of.
        sampler: method of all requests.
        backbone: fingerprint of the network.
        image_inputs: of all requests.
        first_seed: seed of the first image of every source at every level.
        variants: several guidances, which a class's images at a level have in turn.
    """

    class_names: tuple[str, ...]
    prompt: str
    num_inference_steps: int
    guidance: MethodSpec
    sampler: MethodSpec
    backbone: str
    image_inputs: ImageInputs = NO_IMAGE_INPUTS
    first_seed: int = 0
    variants: tuple[MethodSpec, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GenerationPlan:
    """Rows of (source, level, seed), level by level in the order of use, then by class and seed.

    Attributes:
        sources: the images that rows point to.
        template: what all rows share.
        source: (M,) int32, index into `sources`.
        level: (M,) int16, image guidance in percent.
        seed: (M,) int64.
        variant: (M,) int16, index into the template's variants; 0 where it has none.
    """

    sources: SourceImages
    template: RequestTemplate
    source: NDArray[np.int32]
    level: NDArray[np.int16]
    seed: NDArray[np.int64]
    variant: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.source)

    def request(self, row: int) -> GenerationRequest:
        """The request of one row."""
        index, common = int(self.source[row]), self.template
        label = int(self.sources.labels[index])
        name = common.class_names[label]
        return GenerationRequest(
            source_key=self.sources.keys[index],
            source_sha256=self.sources.sha256[index],
            label=label,
            class_name=name,
            prompt=common.prompt.format(class_name=name),
            image_guidance=int(self.level[row]),
            seed=int(self.seed[row]),
            num_inference_steps=common.num_inference_steps,
            guidance=common.variants[self.variant[row]] if common.variants else common.guidance,
            sampler=common.sampler,
            backbone=common.backbone,
            image_inputs=common.image_inputs,
        )

    def keys(self, rows: NDArray[np.int64]) -> list[str]:
        """The requests' keys of these rows; makes a request for each class, level, variant only.

        A request's canonical JSON ends, by the order of the alphabet, with all that differs between
        the requests of one class, level and variant.
        """
        prefixes: dict[tuple[int, int, int], str] = {}
        found: list[str] = []
        sources = self.source[rows]
        kinds = (self.sources.labels[sources], self.level[rows], self.variant[rows])
        for row, source, seed, *kind in zip(
            rows.tolist(),
            *(column.tolist() for column in (sources, self.seed[rows], *kinds)),
            strict=True,
        ):
            label, level, variant = kind
            prefix = prefixes.get((label, level, variant))
            if prefix is None:
                data = {"version": RESULT_VERSION, **self.request(row).as_json()}
                shared = {name: data[name] for name in sorted(data) if name < "seed"}
                assert sorted(data.keys() - shared.keys()) == OWN_FIELDS
                prefix = prefixes[label, level, variant] = canonical_json(shared)[:-1]
            text = (
                f'{prefix},"seed":{seed},"source_key":{json.dumps(self.sources.keys[source])},'
                f'"source_sha256":"{self.sources.sha256[source]}","version":{RESULT_VERSION}}}'
            )
            found.append(hashlib.sha256(text.encode()).hexdigest()[:32])
        return found

    def shards(self, images_per_shard: int) -> Iterator[tuple[str, tuple[GenerationRequest, ...]]]:
        """(name, requests) of every shard."""
        for name, rows in self.shard_rows(images_per_shard):
            yield name, tuple(self.request(row) for row in rows.tolist())

    def shard_rows(self, images_per_shard: int) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """(name, rows) of every shard; makes no request, so millions of rows take seconds.

        A shard holds one level, so a further level adds shards and leaves the others as they are.
        Its name hashes everything its requests consist of: other requests, another name.
        """
        for level in self.levels():
            rows = np.flatnonzero(self.level == level)
            for start in range(0, len(rows), images_per_shard):
                part = rows[start : start + images_per_shard]
                yield f"g{level:03d}-{self._digest(part)}", part

    def _digest(self, rows: NDArray[np.int64]) -> str:
        """32 hex digits of the sha256 of all that the requests of these rows depend on."""
        common, sources = self.template, self.source[rows]
        labels, levels, seeds = self.sources.labels[sources], self.level[rows], self.seed[rows]
        shared = [
            RESULT_VERSION,
            common.prompt,
            common.num_inference_steps,
            common.guidance.as_json(),
            common.sampler.as_json(),
            common.backbone,
            {str(label): common.class_names[label] for label in np.unique(labels).tolist()},
        ]
        if common.image_inputs != NO_IMAGE_INPUTS:  # appended, so that names of old shards stay
            shared.append(common.image_inputs.as_json())
        if common.variants:
            shared.append([each.as_json() for each in common.variants])
            shared.append(self.variant[rows].tolist())
        keys, hashes = self.sources.keys, self.sources.sha256
        columns = (sources.tolist(), labels.tolist(), levels.tolist(), seeds.tolist())
        lines = [
            f"{keys[source]} {hashes[source]} {label} {level} {seed}"
            for source, label, level, seed in zip(*columns, strict=True)
        ]
        text = "\n".join([canonical_json(shared), *lines])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def levels(self) -> tuple[int, ...]:
        """The levels, in the order in which they are made."""
        found, first = np.unique(self.level, return_index=True)
        return tuple(int(level) for level in found[np.argsort(first)])

    def counts(self) -> dict[int, NDArray[np.int64]]:
        """Level to images per class (num_classes,)."""
        num_classes = len(self.template.class_names)
        labels = self.sources.labels[self.source]
        return {
            level: np.bincount(labels[self.level == level], minlength=num_classes)
            for level in self.levels()
        }

    def num_model_calls(
        self,
        calls_per_step: float,
        num_steps: NumSteps,
        rows: NDArray[np.int64] | slice = slice(None),
    ) -> int:
        """Model evaluations of all rows, or of these."""
        steps = self.template.num_inference_steps
        levels, counts = np.unique(self.level[rows], return_counts=True)
        total = sum(
            int(count) * num_steps(steps, int(level))
            for level, count in zip(levels, counts, strict=True)
        )
        return round(total * calls_per_step)


def make_plan(
    sources: SourceImages,
    levels: Sequence[int],
    wanted: NDArray[np.int64],
    template: RequestTemplate,
) -> GenerationPlan:
    """Spreads `wanted` images (num_classes,) of every level over each class's sources in turn.

    Args:
        sources: the hard images.
        levels: in the order in which they shall be made; names of shards do not depend on it.
        wanted: images per class at each level.
        template: what all requests share.

    Raises:
        DataError: levels, and no hard image at all.
    """
    if len(levels) and len(sources.labels) == 0:
        raise DataError(
            "the hard set is empty: no class or image is below the threshold of `hard_set`; "
            "raise it, or choose another method"
        )
    source, seed, variant = [], [], []
    for label in range(len(template.class_names)):
        own = np.flatnonzero(sources.labels == label)
        count = int(wanted[label]) if len(own) else 0
        turn = np.arange(count, dtype=np.int64)
        source.append(own[turn % max(1, len(own))] if count else turn)
        seed.append(turn // max(1, len(own)) + template.first_seed)
        # In turn, moved on by one where they would meet the same sources again.
        number = max(1, len(template.variants))
        variant.append((turn + turn // math.lcm(number, max(1, len(own)))) % number)
    one_level, seeds = np.concatenate(source).astype(np.int32), np.concatenate(seed)
    return GenerationPlan(
        sources=sources,
        template=template,
        source=np.tile(one_level, len(levels)),
        level=np.repeat(np.array(levels, dtype=np.int16), len(one_level)),
        seed=np.tile(seeds, len(levels)),
        variant=np.tile(np.concatenate(variant).astype(np.int16), len(levels)),
    )


def check_levels(levels: Sequence[int], num_inference_steps: int, num_steps: NumSteps) -> None:
    """Refuses levels that would give the same images.

    Raises:
        ConfigError: two levels with the same first step, or one other than 100 without any step.
    """
    by_steps: dict[int, int] = {}
    for level in sorted(levels):
        steps = num_steps(num_inference_steps, level)
        if steps == num_inference_steps and level > 0:
            continue  # a consistency model: its levels start elsewhere and all run every step
        if steps == 0 and level != 100:
            allowed = f"more steps: level {level} of {num_inference_steps} steps runs none"
            raise ConfigError("generation.num_inference_steps", num_inference_steps, allowed)
        if steps in by_steps:
            allowed = (
                f"levels that differ by a step; {by_steps[steps]} and {level} both run {steps}"
            )
            raise ConfigError("generation.levels", list(levels), allowed)
        by_steps[steps] = level


def shard_level(name: str) -> int:
    """The image guidance of a synthetic shard, which begins its name: `g040-...`."""
    return int(name.partition("-")[0].removeprefix("g"))
