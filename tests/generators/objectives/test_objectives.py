"""Equations of the objectives on hand-made numbers."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from generators.objectives.base import FitBatch
from generators.objectives.class_balancing import ClassBalancing
from generators.objectives.denoising import Denoising

NULL = 3


def batch_of(
    labels: list[int], timesteps: list[int], counts: tuple[int, ...] = (1, 0, 0)
) -> FitBatch:
    return FitBatch(
        x_t=torch.zeros(len(labels), 1, 2, 2),
        timesteps=torch.tensor(timesteps),
        labels=torch.tensor(labels),
        target=torch.full((len(labels), 1, 2, 2), 0.5),
        null_class=NULL,
        class_counts=torch.tensor(counts),
        num_timesteps=1000,
        draws=torch.Generator().manual_seed(0),
    )


class ByLabel:
    """A network that says one learnable number a class."""

    def __init__(self, values: list[float]) -> None:
        self.values = torch.tensor(values, requires_grad=True)
        self.seen: list[Tensor] = []

    def __call__(self, x_t: Tensor, timesteps: Tensor, labels: Tensor) -> Tensor:
        self.seen.append(labels)
        return self.values[labels][:, None, None, None].expand_as(x_t)


def test_denoising_is_the_mean_squared_error() -> None:
    loss = Denoising().loss(ByLabel([0.0, 1.5, 0.0, 0.0]), batch_of([0, 1], [1, 2]))
    assert loss.item() == pytest.approx((0.25 + 1.0) / 2)


def test_class_balancing_is_its_formula_and_stops_gradients_where_it_says() -> None:
    network = ByLabel([0.2, 1.0, 0.0, 0.7])
    # Class 0 alone has images, so the other class is always 0. The last row's label was dropped.
    loss = ClassBalancing(tau=2).loss(network, batch_of([1, 1, NULL], [500, 250, 900]))
    denoising = (2 * (1.0 - 0.5) ** 2 + (0.7 - 0.5) ** 2) / 3
    apart = (1.0 - 0.2) ** 2 * 1.25
    assert loss.item() == pytest.approx(denoising + 2 * (0.5 + 0.25) * apart / 3)
    loss.backward()  # type: ignore[no-untyped-call]
    assert network.values.grad is not None
    own, other = network.values.grad[1], network.values.grad[0]
    # d/dh of ||h - sg(h')||^2 alone, d/dh' of the second term alone
    assert float(own) == pytest.approx(2 * 2 * 0.5 / 3 + 2 * 0.75 / 3 * 2 * 0.8)
    assert float(other) == pytest.approx(2 * 0.75 / 3 * 2 * -0.8 / 4)


def test_class_balancing_without_weight_is_denoising_at_its_cost() -> None:
    one, two = ByLabel([0.2, 1.0, 0.0, 0.7]), ByLabel([0.2, 1.0, 0.0, 0.7])
    batch = batch_of([0, 1], [10, 900])
    assert torch.equal(ClassBalancing(tau=0).loss(one, batch), Denoising().loss(two, batch))
    assert len(one.seen) == 1


def test_the_other_class_is_drawn_by_its_images_or_uniformly() -> None:
    batch = batch_of([0] * 4000, [500] * 4000, counts=(6, 3, 1))
    for classes, shares in (("by_count", (0.6, 0.3, 0.1)), ("uniform", (1 / 3,) * 3)):
        network = ByLabel([0.0] * 4)
        ClassBalancing(classes=classes).loss(network, replace(batch))  # type: ignore[arg-type]
        drawn = torch.bincount(network.seen[0][4000:], minlength=3) / 4000
        torch.testing.assert_close(drawn, torch.tensor(shares), atol=0.03, rtol=0)
