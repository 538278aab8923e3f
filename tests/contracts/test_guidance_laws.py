"""Laws of every guidance method, on the exact mixture and on a real network."""

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from generators.backbones.base import Backbone
from generators.engine import Engine, Finished
from generators.guidance.base import Guidance, Target
from generators.models import Models
from generators.noise import NoiseLevel
from generators.program import Prediction, Program
from generators.records import GenerationRequest
from generators.registry import MethodSpec, build, describe, names
from tests.support.guidance import Laws

Make = Callable[..., GenerationRequest]
Render = Callable[..., list[Finished[int, Tensor]]]
GUIDANCE = names("guidance")
LAWS: dict[str, Laws] = {
    name: import_module(f"tests.generators.guidance.test_{name}").LAWS for name in GUIDANCE
}
CASES = [(name, backbone) for name in GUIDANCE for backbone in LAWS[name].backbones]


@pytest.fixture
def backbone(request: pytest.FixtureRequest, fixture: str) -> Backbone:
    found: Backbone = request.getfixturevalue(fixture)
    return found


@pytest.fixture
def grid(name: str, backbone: Backbone, tmp_path: Path) -> list[MethodSpec]:
    found = LAWS[name].grid(backbone, tmp_path)
    return [MethodSpec(name=name, params=params) for params in found]


def outcome(end: Finished[int, Tensor], backbone: Backbone) -> Tensor:
    """The sample; something no sample is where it was rejected."""
    return torch.full(backbone.sample_shape, -99.0) if end.value is None else end.value


def requests_of(make: Make, backbone: Backbone, grid: list[MethodSpec]) -> list[GenerationRequest]:
    """Mixed classes, levels, step counts, parameters and seeds."""
    classes = backbone.class_names or ()
    samplers = build("guidance", grid[0]).card.samplers
    assert "ddim" in (samplers or ["ddim"])
    return [
        make(
            class_name=classes[index % 3],
            label=index % 3,
            seed=index // 2,
            image_guidance=(0, 90, 30, 60, 100)[index % 5],
            num_inference_steps=(3, 8, 5, 10)[index % 4],
            guidance=grid[index % len(grid)],
            sampler=MethodSpec(name="ddim", params={"eta": (0.0, 0.5)[index % 2]}),
        )
        for index in range(15)
    ]


def sources_of(backbone: Backbone, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(count, *backbone.sample_shape, generator=generator) * 2 - 1


@pytest.mark.parametrize(("name", "fixture"), CASES)
def test_packed_equals_alone(
    backbone: Backbone, grid: list[MethodSpec], make_request: Make, render: Render
) -> None:
    requests = requests_of(make_request, backbone, grid)
    sources = sources_of(backbone, len(requests))
    alone = [
        render(backbone, [request], [source], max_batch_size=1)[0]
        for request, source in zip(requests, sources, strict=True)
    ]
    for max_batch_size in (3, 16):
        packed = render(backbone, requests, sources, max_batch_size=max_batch_size)
        for one, other in zip(packed, alone, strict=True):
            assert one.num_model_calls == other.num_model_calls
            assert one.num_readings == other.num_readings
            torch.testing.assert_close(
                outcome(one, backbone), outcome(other, backbone), atol=1e-3, rtol=0
            )


@pytest.mark.parametrize(("name", "fixture"), CASES)
def test_same_request_same_sample_whoever_runs_beside_it(
    backbone: Backbone, grid: list[MethodSpec], make_request: Make, render: Render
) -> None:
    """One renderer serves all: state that outlives a request would show in the second copy."""
    one, other, third = requests_of(make_request, backbone, grid)[:3]
    source = sources_of(backbone, 1)[0]
    done = render(backbone, [one, other, one, third, one], [source] * 5, max_batch_size=4)

    for copy in (done[2], done[4]):
        torch.testing.assert_close(
            outcome(copy, backbone), outcome(done[0], backbone), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize(("name", "fixture"), [c for c in CASES if LAWS[c[0]].off])
def test_switched_off_it_is_what_it_says_bit_for_bit(
    name: str,
    backbone: Backbone,
    grid: list[MethodSpec],
    tmp_path: Path,
    make_request: Make,
    render: Render,
) -> None:
    switch = LAWS[name].off
    assert switch is not None
    off = MethodSpec(name=name, params=switch(backbone, tmp_path))
    first = (backbone.class_names or ())[0]
    base = {"class_name": first, "label": 0, "num_inference_steps": 6}
    source = sources_of(backbone, 1)
    for level in (0, 40):
        ours, wanted, *on = (
            outcome(
                render(
                    backbone,
                    [make_request(**base, guidance=spec, image_guidance=level)],
                    source,
                    max_batch_size=1,
                )[0],
                backbone,
            )
            for spec in (off, LAWS[name].off_equals, *grid)
        )
        assert torch.equal(ours, wanted)
        assert not all(torch.allclose(each, ours, atol=1e-4) for each in on)


@pytest.mark.parametrize(("name", "fixture"), CASES)
def test_cost_of_a_step_is_as_announced(
    backbone: Backbone, grid: list[MethodSpec], make_request: Make, render: Render
) -> None:
    first = (backbone.class_names or ())[0]
    for spec in grid:
        request = make_request(
            class_name=first, label=0, guidance=spec, num_inference_steps=10, image_guidance=40
        )
        (done,) = render(backbone, [request], sources_of(backbone, 1))
        announced = build("guidance", spec).calls_per_step
        assert done.num_model_calls <= 6 * announced + 1e-9


@pytest.mark.parametrize(("name", "fixture"), CASES)
def test_a_null_conditioning_is_used_only_where_it_is_said_to_be_needed(
    backbone: Backbone, grid: list[MethodSpec]
) -> None:
    for spec in grid:
        guidance: Guidance = build("guidance", spec)
        if guidance.needs_unconditional:
            continue
        models = Models(backbone)
        cond = models.condition(models.class_names[2])
        source = torch.zeros(backbone.sample_shape)
        target = Target(cond=cond, uncond=None, label=2, source=source, models=models)
        denoise = guidance.denoiser(target)
        program = denoise(torch.zeros(backbone.sample_shape), backbone.schedule.levels(4)[1])
        (end,) = Engine(backbone, 4).run([(0, program)])
        assert end.value is not None


@pytest.mark.parametrize(("name", "fixture"), CASES)
def test_fits_the_network_it_was_made_for(backbone: Backbone, grid: list[MethodSpec]) -> None:
    for spec in grid:
        guidance: Guidance = build("guidance", spec)
        guidance.check(Models(backbone))
        assert all(Path(file).exists() for file in guidance.files)


@pytest.mark.parametrize("name", GUIDANCE)
def test_says_where_it_comes_from_and_what_it_costs(name: str) -> None:
    info = describe("guidance", name)
    assert "evaluation" in info.cost
    assert "arXiv" in info.paper or name in {"none", "together", "diffusers"}


class HalfPrecision:
    """A backbone whose network computes in bfloat16, as on a GPU."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self.schedule, self.device = backbone.schedule, backbone.device

    def forward(self, x_t: Tensor, timesteps: Tensor, cond: Any) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self._backbone.forward(x_t, timesteps, cond).bfloat16()


@pytest.mark.parametrize(
    ("name", "fixture"), [(name, "tiny_unet") for name, found in CASES if found == "tiny_unet"]
)
def test_half_precision_network_stays_finite_and_near(
    grid: list[MethodSpec], backbone: Backbone
) -> None:
    """The arithmetic of guidance is float32 whatever the network computes in."""
    models = Models(backbone)
    source = sources_of(backbone, 1)[0]
    levels = backbone.schedule.levels(4)

    def programs() -> Iterator[tuple[tuple[int, NoiseLevel], Program[Prediction]]]:
        for index, spec in enumerate(grid):
            target = Target(
                cond=models.condition(models.class_names[0]),
                uncond=models.unconditional(),
                label=0,
                source=source,
                models=models,
                walk=levels,
            )
            for level in levels[:-1]:
                yield (index, level), build("guidance", spec).denoiser(target)(source, level)

    exact = {end.key: end.value for end in Engine(backbone, 8).run(programs())}
    half = Engine(HalfPrecision(backbone), 8)  # type: ignore[arg-type]
    for end in half.run(programs()):
        for found, expected in (
            (end.value.x_0, exact[end.key].x_0),
            (end.value.eps, exact[end.key].eps),
        ):
            assert found.dtype == torch.float32
            assert found.isfinite().all()
            assert float((found - expected).abs().max()) < 0.2 * max(1, expected.abs().max())
