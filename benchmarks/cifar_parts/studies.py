"""What `benchmarks.cifar` does: generators, and the trainings that their images are used in."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A generator and the grid of trainings that its images are used in.

    Attributes:
        fit: config of the generator, if there is one.
        grid: config of the study.
        data: what the classifiers learn from.
        changes: of the grid's config, `KEY=VALUE`.
        is_real: it has real images alone, and what is called the curriculum of the run repeats
            those of the hard classes. A generator is not asked: there is no level below 100.
    """

    fit: str | None
    grid: str
    data: str
    changes: tuple[str, ...] = ()
    is_real: bool = False


LT50: Final = "data.source.path=data/lt50.parquet"

OWN: Final = (
    "generation.backbone.path=own_fit16/cifar16-own",
    "compare={single_50: {schedule: {name: single, level: 50}, tail_share: 0.5}}",
    "study.treatments={balanced_softmax: {loss: balanced_softmax}}",
)
"""Fitted to the images of imbalance 100, all of which are in those of 50."""


def arm(name: str, schedule: str) -> str:
    """An arm of `compare`, as text: hard classes are half of an epoch, an image counts as 0.3."""
    return f"{name}: {{schedule: {schedule}, tail_share: 0.5, added_count: 0.3}}"


SINGLE_50: Final = arm("single_50", "{name: single, level: 50}")
SINGLE_30: Final = arm("single_30", "{name: single, level: 30}")
DESCENDING: Final = arm("descending", "{name: fixed_stages, order: descending, real_percent: 0}")
FLAT: Final = arm("flat", "mixed")
RECURSIVE: Final = arm("recursive", "{name: recursive, real_percent: 0}")

CROSS_ENTROPY: Final = ("training.loss=cross_entropy", "study.treatments={}")


def real_images(epochs: int) -> Study:
    """Real images alone, for longer or shorter than elsewhere: are the classifiers done?"""
    return Study(
        fit="unasked_fit16",
        grid="real_study16",
        data=f"CIFAR-10-LT 100, 16x16, real images, {epochs} epochs",
        changes=(
            f"training.epochs={epochs}",
            "compare={}",
            f"name=cifar10_lt16_real_{epochs}_epochs",
        ),
        is_real=True,
    )


STUDIES: Final = {
    "outside": Study(fit="fit16", grid="study16", data="CIFAR-10-LT 100, 16x16"),
    "outside_50": Study(
        fit="fit16",
        grid="study16",
        data="CIFAR-10-LT 50, 16x16",
        changes=(LT50, "name=cifar10_lt16_50"),
    ),
    "outside_prior": Study(
        fit="fit16", grid="prior_study16", data="CIFAR-10-LT 100, 16x16, Balanced Softmax"
    ),
    "outside_40_epochs": Study(
        fit="fit16",
        grid="prior_study16",
        data="CIFAR-10-LT 100, 16x16, Balanced Softmax, 40 epochs",
        changes=("training.epochs=40", f"compare={{{SINGLE_50}}}", "name=cifar10_lt16_40_epochs"),
    ),
    "outside_80_epochs": Study(
        fit="fit16",
        grid="prior_study16",
        data="CIFAR-10-LT 100, 16x16, 80 epochs",
        changes=(
            "training.epochs=80",
            f"compare={{{SINGLE_50}}}",
            "study.treatments={cross_entropy: {loss: cross_entropy}}",
            "name=cifar10_lt16_long",
        ),
    ),
    "order": Study(
        fit="fit16",
        grid="order_study16",
        data="CIFAR-10-LT 100, 16x16, Balanced Softmax, order of the levels, 40 epochs",
    ),
    "outside_prior_50": Study(
        fit="fit16",
        grid="prior_study16",
        data="CIFAR-10-LT 50, 16x16, Balanced Softmax",
        changes=(LT50, "name=cifar10_lt16_prior_50"),
    ),
    "own": Study(
        fit="own_fit16",
        grid="study16",
        data="CIFAR-10-LT 100, 16x16, own generator",
        changes=(*OWN, "name=cifar10_lt16_own"),
    ),
    "own_50": Study(
        fit="own_fit16",
        grid="study16",
        data="CIFAR-10-LT 50, 16x16, own generator",
        changes=(*OWN, LT50, "name=cifar10_lt16_own_50"),
    ),
    "real": Study(
        fit="unasked_fit16",
        grid="real_study16",
        data="CIFAR-10-LT 100, 16x16, real images",
        is_real=True,
    ),
    "real_50": Study(
        fit="unasked_fit16",
        grid="real_study16",
        data="CIFAR-10-LT 50, 16x16, real images",
        changes=(LT50, "name=cifar10_lt16_real_50"),
        is_real=True,
    ),
    "real_5_epochs": real_images(epochs=5),
    "real_10_epochs": real_images(epochs=10),
    "real_40_epochs": real_images(epochs=40),
    "outside_32": Study(fit="fit32", grid="study32", data="CIFAR-10-LT 100, 32x32"),
    "outside_32_50": Study(
        fit="fit32",
        grid="study32",
        data="CIFAR-10-LT 50, 32x32",
        changes=(LT50, "study.treatments={}", "name=cifar10_lt32_50"),
    ),
    "order_32": Study(
        fit="fit32",
        grid="study32",
        data="CIFAR-10-LT 100, 32x32, order of the levels",
        changes=(
            f"compare={{{RECURSIVE}, {FLAT}}}",
            "study.treatments={}",
            "training.seeds=16",
            "name=cifar10_lt32_order",
        ),
    ),
    "cross_entropy_32_50": Study(
        fit="fit32",
        grid="study32",
        data="CIFAR-10-LT 50, 32x32, cross-entropy",
        changes=(LT50, *CROSS_ENTROPY, "name=cifar10_lt32_50_cross_entropy"),
    ),
    "outside_32_40_epochs": Study(
        fit="fit32",
        grid="study32",
        data="CIFAR-10-LT 100, 32x32, Balanced Softmax, 40 epochs",
        changes=(
            "training.epochs=40",
            f"compare={{{RECURSIVE}, {SINGLE_50}, {SINGLE_30}, {DESCENDING}}}",
            "study.treatments={}",
            "name=cifar10_lt32_40_epochs",
        ),
    ),
    "level_30_32": Study(
        fit="fit32",
        grid="study32",
        data="CIFAR-10-LT 100, 32x32, level 30",
        changes=(f"compare={{{SINGLE_30}}}", "study.treatments={}", "name=cifar10_lt32_level_30"),
    ),
    "level_30_32_40_epochs": Study(
        fit="fit32",
        grid="study32",
        data="CIFAR-10-LT 100, 32x32, level 30, 40 epochs",
        changes=(
            "training.epochs=40",
            "training.seeds=6",
            f"compare={{{SINGLE_30}}}",
            "study.treatments={}",
            "name=cifar10_lt32_level_30_40_epochs",
        ),
    ),
    "cross_entropy_32_40_epochs": Study(
        fit="fit32",
        grid="study32",
        data="CIFAR-10-LT 100, 32x32, cross-entropy, 40 epochs",
        changes=(
            "training.epochs=40",
            "compare={}",
            *CROSS_ENTROPY,
            "name=cifar10_lt32_40_epochs_cross_entropy",
        ),
    ),
    "own_32": Study(
        fit="own_fit32",
        grid="study32",
        data="CIFAR-10-LT 100, 32x32, own generator",
        changes=(
            "generation.backbone.path=own_fit32/cifar32-own",
            f"compare={{{SINGLE_50}}}",
            "name=cifar10_lt32_own",
        ),
    ),
    "real_32": Study(
        fit=None,
        grid="study32",
        data="CIFAR-10-LT 100, 32x32, real images, LDAM-DRW",
        changes=(
            "generation={}",
            "training.loss=ldam",
            "curriculum={schedule: repeat, tail_share: 0.5}",
            "compare={}",
            "study.treatments={}",
            "name=cifar10_lt32_real",
        ),
        is_real=True,
    ),
}
