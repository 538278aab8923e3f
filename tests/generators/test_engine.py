from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from generators.backbones.toy import GaussianMixture
from generators.engine import Engine
from generators.errors import ConfigError, SampleRejected
from generators.noise import NoiseLevel
from generators.program import ModelCall, Program, gather
from generators.records import GenerationRequest
from generators.registry import MethodSpec
from generators.render import Job, Renderer

Make = Callable[..., GenerationRequest]
LEVEL = NoiseLevel(timestep=500, alpha=0.6, sigma=0.8, progress=0)


def asking(backbone: GaussianMixture, rounds: int, shape: tuple[int, ...] = ()) -> Program[Tensor]:
    """Follows the predicted clean point for some rounds."""
    x = torch.full(shape or backbone.sample_shape, 0.3)
    cond = backbone.condition([""], ["right"])[0]
    for _ in range(rounds):
        (prediction,) = yield (ModelCall(x_t=x, level=LEVEL, cond=cond),)
        x = prediction.x_0
    return x


def mixed_requests(make: Make, count: int) -> list[GenerationRequest]:
    """Levels, step counts, scales and seeds all different: none of it may split a batch."""
    return [
        make(
            seed=index,
            image_guidance=(0, 20, 50, 80, 100)[index % 5],
            num_inference_steps=(5, 10, 17)[index % 3],
            guidance=MethodSpec(name="cfg", params={"guidance_scale": (0, 1, 1.5, 4)[index % 4]}),
            sampler=MethodSpec(name=("ddim", "dpm_solver_pp_2m")[index % 2]),
        )
        for index in range(count)
    ]


def programs(
    backbone: GaussianMixture, requests: list[GenerationRequest]
) -> Iterator[tuple[int, Program[Tensor]]]:
    renderer = Renderer(backbone)
    cond = backbone.condition([""], ["right"])[0]
    for index, request in enumerate(requests):
        source = torch.tensor([0.2, -0.4]).view(backbone.sample_shape)
        yield index, renderer.program(Job(request=request, source=source, cond=cond))


def test_mixed_requests_fill_batches(mixture: GaussianMixture, make_request: Make) -> None:
    """Only the end of the run, at most one request long, may be less than full."""
    engine = Engine(mixture, max_batch_size=16)

    done = list(engine.run(programs(mixture, mixed_requests(make_request, 150))))

    assert sorted(end.key for end in done) == list(range(150))
    assert engine.stats.num_model_calls == sum(end.num_model_calls for end in done)
    assert engine.stats.num_batches <= engine.stats.num_model_calls / 16 + 17
    assert engine.stats.batch_fill >= 0.85


def test_longest_first_fills_nearly_every_row(mixture: GaussianMixture, make_request: Make) -> None:
    requests = mixed_requests(make_request, 150)
    requests.sort(key=lambda r: r.num_inference_steps * (r.image_guidance - 100))
    engine = Engine(mixture, max_batch_size=16)

    list(engine.run(programs(mixture, requests)))

    assert engine.stats.batch_fill >= 0.97


def test_model_calls_are_counted_exactly(mixture: GaussianMixture, make_request: Make) -> None:
    requests = mixed_requests(make_request, 60)
    done = {end.key: end for end in Engine(mixture, 7).run(programs(mixture, requests))}

    for index, request in enumerate(requests):
        steps = request.num_inference_steps * (100 - request.image_guidance) // 100
        a_step = 1 if request.guidance.params["guidance_scale"] in (0, 1) else 2
        assert done[index].num_model_calls == steps * a_step


def test_programs_are_drawn_only_when_there_is_room(mixture: GaussianMixture) -> None:
    drawn = []

    def endless() -> Iterator[tuple[int, Program[Tensor]]]:
        for index in range(10**9):
            drawn.append(index)
            yield index, asking(mixture, rounds=3)

    run = Engine(mixture, max_batch_size=4).run(endless())

    assert next(run).value is not None
    assert len(drawn) <= 8
    for _ in range(20):
        next(run)
    assert len(drawn) <= 29  # 21 have ended; at most two batches are under way


def test_no_batch_is_larger_than_allowed(mixture: GaussianMixture) -> None:
    seen = []

    class Watched:
        """The mixture, writing down its batch sizes."""

        schedule, device = mixture.schedule, mixture.device

        def forward(self, x_t: Tensor, timesteps: Tensor, cond: Any) -> Tensor:
            seen.append(len(x_t))
            return mixture.forward(x_t, timesteps, cond)

    wide = ((i, gather(*[asking(mixture, 2) for _ in range(5)])) for i in range(3))
    done = list(Engine(Watched(), max_batch_size=4).run(wide))  # type: ignore[arg-type]

    assert len(done) == 3
    assert max(seen) == 4
    assert sum(seen) == 30


def test_rows_of_a_rare_shape_wait_for_company(mixture: GaussianMixture) -> None:
    """Only shapes decide what can share a batch, and the fullest pack goes first."""
    shapes = []

    class AnyShape:
        """A network for images of every size."""

        schedule, device = mixture.schedule, mixture.device

        def forward(self, x_t: Tensor, timesteps: Tensor, cond: Any) -> Tensor:
            shapes.append(tuple(x_t.shape))
            return x_t

    kinds = ["rare", *["common"] * 4] * 4
    sizes = {"rare": (1, 3, 2), "common": (1, 1, 2)}
    run = Engine(AnyShape(), max_batch_size=4).run(  # type: ignore[arg-type]
        (index, asking(mixture, 1, sizes[kind])) for index, kind in enumerate(kinds)
    )

    assert {end.key: end.value.shape for end in run if end.value is not None} == {
        index: torch.Size(sizes[kind]) for index, kind in enumerate(kinds)
    }
    assert sorted(shapes) == [(4, 1, 1, 2)] * 4 + [(4, 1, 3, 2)]


def test_a_rejected_program_ends_alone(mixture: GaussianMixture) -> None:
    def rejecting() -> Program[Tensor]:
        yield (ModelCall(x_t=torch.zeros(1, 1, 2), level=LEVEL, cond=mixture.unconditional()),)
        raise SampleRejected("too_odd", "for this test")

    starts = {"bad": rejecting(), "good": asking(mixture, 4)}
    done = {end.key: end for end in Engine(mixture, 2).run(starts.items())}

    assert done["bad"].value is None
    assert done["bad"].rejected is not None
    assert done["bad"].rejected.reason == "too_odd"
    assert done["bad"].num_model_calls == 1
    assert done["good"].rejected is None
    assert done["good"].value is not None


def test_any_other_error_ends_the_run(mixture: GaussianMixture) -> None:
    def failing() -> Program[Tensor]:
        yield (ModelCall(x_t=torch.zeros(1, 1, 2), level=LEVEL, cond=mixture.unconditional()),)
        raise ZeroDivisionError

    run = Engine(mixture, 2).run({"bad": failing(), "good": asking(mixture, 4)}.items())
    with pytest.raises(ZeroDivisionError):
        list(run)


def test_programs_that_ask_for_nothing_are_answered(mixture: GaussianMixture) -> None:
    def silent() -> Program[Tensor]:
        assert (yield ()) == ()
        (prediction,) = yield (
            ModelCall(x_t=torch.zeros(1, 1, 2), level=LEVEL, cond=mixture.unconditional()),
        )
        assert (yield ()) == ()
        return prediction.x_0

    (end,) = Engine(mixture, 2).run([("only", silent())])

    assert end.value is not None
    assert end.num_model_calls == 1


def test_gathered_programs_equal_separate_ones(mixture: GaussianMixture) -> None:
    both = gather(asking(mixture, 2), asking(mixture, 5))
    (together,) = Engine(mixture, 8).run([("both", both)])
    (short,) = Engine(mixture, 8).run([("short", asking(mixture, 2))])
    (long,) = Engine(mixture, 8).run([("long", asking(mixture, 5))])

    assert together.value is not None
    assert together.num_model_calls == 7
    assert torch.equal(together.value[0], short.value)
    assert torch.equal(together.value[1], long.value)


def test_predictions_are_consistent_for_every_prediction_type(mixture: GaussianMixture) -> None:
    """x_t = alpha x_0 + sigma eps must hold for what each raw output is turned into."""
    x_t = torch.tensor([0.3, -0.8]).view(1, 1, 2)
    raw = torch.tensor([0.1, 0.7]).view(1, 1, 2)
    expected = {
        "epsilon": ((x_t - 0.8 * raw) / 0.6, raw),
        "sample": (raw, (x_t - 0.6 * raw) / 0.8),
        "v_prediction": (0.6 * x_t - 0.8 * raw, 0.6 * raw + 0.8 * x_t),
    }

    class Constant:
        """A network whose output is known."""

        device = mixture.device

        def __init__(self, kind: Any) -> None:
            self.schedule = replace(mixture.schedule, prediction_type=kind)

        def forward(self, x_t: Tensor, timesteps: Tensor, cond: Any) -> Tensor:
            return raw.expand_as(x_t)

    def once() -> Program[Any]:
        (prediction,) = yield (ModelCall(x_t=x_t, level=LEVEL, cond={}),)
        return prediction

    for kind, (x_0, eps) in expected.items():
        (end,) = Engine(Constant(kind), 1).run([("only", once())])  # type: ignore[arg-type]
        torch.testing.assert_close(end.value.x_0, x_0)
        torch.testing.assert_close(end.value.eps, eps)
        torch.testing.assert_close(0.6 * end.value.x_0 + 0.8 * end.value.eps, x_t)


def test_flow_predictions_are_consistent(mixture: GaussianMixture) -> None:
    """u = eps - x_0 at alpha + sigma = 1."""
    x_0, eps = torch.tensor([0.5, -0.25]).view(1, 1, 2), torch.tensor([-1.0, 2.0]).view(1, 1, 2)
    level = NoiseLevel(timestep=300, alpha=0.7, sigma=0.3, progress=0)

    class Constant:
        """A network that knows the velocity."""

        device = mixture.device
        schedule = replace(mixture.schedule, prediction_type="flow")

        def forward(self, x_t: Tensor, timesteps: Tensor, cond: Any) -> Tensor:
            return (eps - x_0)[None]

    def once() -> Program[Any]:
        (prediction,) = yield (ModelCall(x_t=0.7 * x_0 + 0.3 * eps, level=level, cond={}),)
        return prediction

    (end,) = Engine(Constant(), 1).run([("only", once())])  # type: ignore[arg-type]
    torch.testing.assert_close(end.value.x_0, x_0)
    torch.testing.assert_close(end.value.eps, eps)


def test_a_batch_of_no_rows_is_refused(mixture: GaussianMixture) -> None:
    with pytest.raises(ConfigError, match="max_batch_size"):
        Engine(mixture, 0)
