"""What the engine does when memory is short, and what padding is for."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from generators.backbones.base import Backbone
from generators.backbones.toy import GaussianMixture
from generators.engine import Engine, Finished
from generators.noise import NoiseLevel
from generators.program import ModelCall, Program
from generators.records import GenerationRequest
from generators.registry import MethodSpec
from generators.render import Job, Renderer

Make = Callable[..., GenerationRequest]


class Small:
    """The mixture on a device that runs out of memory beyond some rows."""

    def __init__(self, mixture: GaussianMixture, rows: int) -> None:
        self.schedule, self.device, self._mixture = mixture.schedule, mixture.device, mixture
        self.rows, self.seen = rows, list[int]()

    def forward(self, x_t: Tensor, timesteps: Tensor, cond: Any) -> Tensor:
        if len(x_t) > self.rows:
            raise torch.OutOfMemoryError
        self.seen.append(len(x_t))
        return self._mixture.forward(x_t, timesteps, cond)


def run(engine: Engine, mixture: Backbone, make: Make) -> dict[int, Finished[int, Tensor]]:
    """24 requests of different levels and scales."""
    renderer, cond = Renderer(mixture), mixture.condition([""], ["right"])[0]
    requests = [
        make(
            seed=index,
            image_guidance=(0, 20, 50)[index % 3],
            guidance=MethodSpec(name="cfg", params={"guidance_scale": (0, 1.5)[index % 2]}),
        )
        for index in range(24)
    ]
    source = torch.tensor([0.2, -0.4]).view(mixture.sample_shape)
    programs = (
        (index, renderer.program(Job(request=request, source=source, cond=cond)))
        for index, request in enumerate(requests)
    )
    return {end.key: end for end in engine.run(programs)}


def once(mixture: Backbone) -> Program[Tensor]:
    level = NoiseLevel(timestep=500, alpha=0.6, sigma=0.8, progress=0)
    call = ModelCall(x_t=torch.zeros(1, 1, 2), level=level, cond=mixture.unconditional())
    (prediction,) = yield (call,)
    return prediction.x_0


@pytest.mark.parametrize("pad", [False, True])
def test_batches_are_halved_until_they_fit_and_nothing_is_lost(
    mixture: GaussianMixture, make_request: Make, pad: bool
) -> None:
    backbone = Small(mixture, rows=5)
    engine = Engine(backbone, 16, pad=pad)  # type: ignore[arg-type]

    with pytest.warns(UserWarning, match="out of memory") as said:
        done = run(engine, mixture, make_request)
    whole = run(Engine(mixture, 16), mixture, make_request)

    assert [str(warning.message).split()[5] for warning in said] == ["8", "4"]
    assert engine.max_batch_size == 4
    assert sum(backbone.seen) >= engine.stats.num_model_calls
    assert max(backbone.seen) == 4
    for key, end in whole.items():
        assert done[key].num_model_calls == end.num_model_calls
        assert torch.allclose(done[key].value, end.value, atol=1e-5)  # type: ignore[arg-type]


def test_one_row_that_does_not_fit_ends_the_run(mixture: GaussianMixture) -> None:
    engine = Engine(Small(mixture, rows=0), 2)  # type: ignore[arg-type]
    with (
        pytest.warns(UserWarning, match="batches have 1 rows"),
        pytest.raises(torch.OutOfMemoryError),
    ):
        list(engine.run([("only", once(mixture))]))


def test_padded_results_do_not_depend_on_the_packing_bit_for_bit(tiny_unet: Any) -> None:
    """Every evaluation has the same shape, whatever shares it; only full rows are counted."""
    noise = torch.Generator().manual_seed(0)
    starts = torch.randn(11, *tiny_unet.sample_shape, generator=noise)
    cond = tiny_unet.condition([""], ["wolf"])[0]

    def walk(index: int) -> Program[Tensor]:
        x = starts[index]
        for step in range(3):
            level = NoiseLevel(timestep=100.0 * index + step, alpha=0.8, sigma=0.6, progress=0)
            (prediction,) = yield (ModelCall(x_t=x, level=level, cond=cond),)
            x = prediction.eps
        return x

    def results(order: list[int]) -> dict[int, Tensor]:
        engine = Engine(tiny_unet, 4, pad=True)
        done = engine.run((index, walk(index)) for index in order)
        found = {end.key: end.value for end in done if end.value is not None}
        assert engine.stats.num_model_calls == 3 * len(order)
        assert engine.stats.capacity == 4 * engine.stats.num_batches
        return found

    together = results(list(range(11)))
    backwards = results(list(range(10, -1, -1)))
    alone = {index: results([index])[index] for index in range(11)}
    for index in range(11):
        assert torch.equal(together[index], backwards[index])
        assert torch.equal(together[index], alone[index])
