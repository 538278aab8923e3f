"""What holds for every loss, by name: a new file is under these at once."""

from typing import Any

import pytest
import torch
from torch.nn import functional

from generators.registry import MethodSpec, build, describe, names
from tests.curriculum.losses.told import told

LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 3, 1, 1, 2, 0])
NEUTRAL: dict[str, dict[str, Any]] = {
    "focal": {"gamma": 0},
    "lade": {"alpha": 0},
    "ldam": {"max_margin": 0},
    "ride": {"max_margin": 0, "diversity": 0, "num_experts": 1},
}
"""What takes away the parts of a loss that do not come from class counts."""


def method(name: str, **params: Any) -> Any:
    return build("loss", MethodSpec(name=name, params={**NEUTRAL.get(name, {}), **params}))


def smooths(name: str) -> bool:
    return "label_smoothing" in {parameter.name for parameter in describe("loss", name).parameters}


@pytest.mark.parametrize("progress", [0.0, 0.95])
@pytest.mark.parametrize("name", names("loss"))
def test_uniform_counts_give_plain_cross_entropy(name: str, progress: float) -> None:
    found = method(name).loss(LOGITS, LABELS, told(7, 7, 7, 7, progress=progress))
    torch.testing.assert_close(found, functional.cross_entropy(LOGITS, LABELS, reduction="none"))


@pytest.mark.parametrize("progress", [0.0, 0.95])
@pytest.mark.parametrize("name", names("loss"))
def test_soft_targets_mix_the_losses_of_hard_ones(name: str, progress: float) -> None:
    known, counts = method(name), told(50, 9, 3, 1, progress=progress)
    hard = functional.one_hot(LABELS, 4).float()
    once, other = known.loss(LOGITS, LABELS, counts), known.loss(LOGITS, LABELS.flip(0), counts)
    torch.testing.assert_close(known.loss(LOGITS, hard, counts), once)
    mixed = known.loss(LOGITS, 0.25 * hard + 0.75 * hard.flip(0), counts)
    torch.testing.assert_close(mixed, 0.25 * once + 0.75 * other)
    assert mixed.shape == (6,)


@pytest.mark.parametrize(
    "name",
    [
        n
        for n in names("loss")
        if "label_smoothing" in {p.name for p in describe("loss", n).parameters}
    ],
)
def test_label_smoothing_is_a_share(name: str) -> None:
    found = method(name, label_smoothing=0.1).loss(LOGITS, LABELS, told(7, 7, 7, 7))
    wanted = functional.cross_entropy(LOGITS, LABELS, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("name", names("loss"))
def test_extreme_counts_and_logits_stay_finite_with_finite_gradients(name: str) -> None:
    known = build("loss", MethodSpec(name=name))
    logits = (30 * LOGITS).requires_grad_()
    for progress in (0.0, 0.95):
        loss = known.loss(logits, LABELS, told(100_000, 3, 1, 0, progress=progress))
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        assert torch.isfinite(loss).all()
        assert torch.isfinite(gradient).all()


# The effective number of `class_balanced` is of the counts themselves.
@pytest.mark.parametrize("name", [name for name in names("loss") if name != "class_balanced"])
def test_only_the_ratios_of_counts_matter_before_reweighting(name: str) -> None:
    known = method(name)
    once, twice = (
        known.loss(LOGITS, LABELS, told(*(f * n for n in (50, 9, 3, 2)))) for f in (1, 2)
    )
    torch.testing.assert_close(once, twice)
