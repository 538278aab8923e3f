"""Energies and other networks in one engine: what is packed, and what comes back."""

import pytest
import torch
from torch import Tensor

from generators.backbones.toy import GaussianMixture, Toy
from generators.engine import Engine
from generators.program import (
    Conditioning,
    EnergyCall,
    ModelCall,
    Prediction,
    Program,
    Reading,
    ask,
    gather,
    read,
)
from tests.conftest import MIXTURE


class Squares:
    """scale * |x|^2 / 2: its gradient is scale * x. Remembers the sizes of its batches."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, x: Tensor, timesteps: Tensor, inputs: Conditioning) -> Tensor:
        self.sizes.append(len(x))
        return inputs["scale"] * x.square().flatten(1).sum(1) / 2


@pytest.mark.parametrize("pad", [False, True])
def test_gradients_of_many_requests_are_one_pass_back(mixture: GaussianMixture, pad: bool) -> None:
    energy, level = Squares(), mixture.schedule.levels(10)[4]
    xs = torch.randn(6, 1, 1, 2, generator=torch.Generator().manual_seed(0))

    def look(index: int) -> Program[Reading]:
        inputs = {"scale": torch.tensor([float(index)])}
        return read(EnergyCall(x=xs[index], level=level, energy=energy, inputs=inputs))

    engine = Engine(mixture, 8, pad=pad)
    done = {end.key: end for end in engine.run((i, look(i)) for i in range(6))}
    assert energy.sizes == [8 if pad else 6]
    for index, end in done.items():
        assert end.value is not None
        torch.testing.assert_close(end.value.gradient, index * xs[index])
        torch.testing.assert_close(end.value.value, index * xs[index].square().sum() / 2)
        assert (end.num_model_calls, end.num_readings) == (0, 1)
    assert (engine.stats.num_readings, engine.stats.num_reading_batches) == (6, 1)
    assert engine.stats.num_model_calls == 0


def test_a_look_without_gradient_has_none(mixture: GaussianMixture) -> None:
    call = EnergyCall(
        x=torch.ones(1, 1, 2),
        level=mixture.schedule.levels(4)[1],
        energy=Squares(),
        inputs={"scale": torch.ones(1)},
        gradient=False,
    )
    (end,) = Engine(mixture, 4).run([(0, read(call))])
    assert end.value is not None
    assert end.value.gradient is None
    assert float(end.value.value) == 1


def test_rows_of_another_network_are_its_own_and_equal_calls_are_made_once(
    mixture: GaussianMixture,
) -> None:
    other = Toy(means=MIXTURE.means, variance=0.3).load("cpu")
    x_t, level = torch.full((1, 1, 2), 0.4), mixture.schedule.levels(10)[5]
    cond = mixture.condition([""], ["right"])[0]

    def both() -> Program[tuple[Prediction, ...]]:
        calls = [ModelCall(x_t=x_t, level=level, cond=cond, network=n) for n in (None, other, None)]
        return gather(*(ask(call) for call in calls))

    (end,) = Engine(mixture, 4).run([(0, both())])
    assert end.num_model_calls == 2
    assert end.value is not None
    steps = torch.tensor([level.timestep])
    for network, found in zip((mixture, other, mixture), end.value, strict=True):
        torch.testing.assert_close(found.eps, network.forward(x_t[None], steps, cond)[0])
    assert not torch.allclose(end.value[0].eps, end.value[1].eps, atol=1e-3)
