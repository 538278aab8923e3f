"""Laws of every guidance method, on the exact mixture and on a real network."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from generators.backbones.base import Backbone
from generators.engine import Engine, Finished
from generators.guidance.base import Target
from generators.noise import NoiseLevel
from generators.program import Prediction, Program
from generators.records import GenerationRequest
from generators.registry import MethodSpec, build, describe, names

Make = Callable[..., GenerationRequest]
Render = Callable[..., list[Finished[int, Tensor]]]
GUIDANCE = names("guidance")
SCALED = [
    name
    for name in GUIDANCE
    if "guidance_scale" in {p.name for p in describe("guidance", name).parameters}
]


def spec(name: str, scale: float) -> MethodSpec:
    return MethodSpec(name=name, params={"guidance_scale": scale} if name in SCALED else {})


@pytest.fixture(params=["mixture", "tiny_unet"])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    found: Backbone = request.getfixturevalue(request.param)
    return found


def requests_of(make: Make, backbone: Backbone, name: str) -> list[GenerationRequest]:
    """Mixed classes, levels, step counts, scales and seeds."""
    classes = backbone.class_names or ()
    return [
        make(
            class_name=classes[index % 3],
            label=index % 3,
            seed=index // 2,
            image_guidance=(0, 90, 30, 60, 100)[index % 5],
            num_inference_steps=(3, 8, 5, 10)[index % 4],
            guidance=spec(name, (2.0, 0.0, 1.0, 4.5)[index % 4]),
            sampler=MethodSpec(name="ddim", params={"eta": (0.0, 0.5)[index % 2]}),
        )
        for index in range(15)
    ]


def sources_of(backbone: Backbone, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(count, *backbone.sample_shape, generator=generator) * 2 - 1


@pytest.mark.parametrize("name", GUIDANCE)
def test_packed_equals_alone(
    name: str, backbone: Backbone, make_request: Make, render: Render
) -> None:
    requests = requests_of(make_request, backbone, name)
    sources = sources_of(backbone, len(requests))
    alone = [
        render(backbone, [request], [source], max_batch_size=1)[0]
        for request, source in zip(requests, sources, strict=True)
    ]
    for max_batch_size in (3, 16):
        packed = render(backbone, requests, sources, max_batch_size=max_batch_size)
        for one, other in zip(packed, alone, strict=True):
            assert one.num_model_calls == other.num_model_calls
            torch.testing.assert_close(one.value, other.value, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", GUIDANCE)
def test_same_request_same_sample_whoever_runs_beside_it(
    name: str, backbone: Backbone, make_request: Make, render: Render
) -> None:
    """One renderer serves all: state that outlives a request would show in the second copy."""
    one, other, third = requests_of(make_request, backbone, name)[:3]
    source = sources_of(backbone, 1)[0]
    done = render(backbone, [one, other, one, third, one], [source] * 5, max_batch_size=4)

    for copy in (done[2], done[4]):
        torch.testing.assert_close(copy.value, done[0].value, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SCALED)
def test_scale_one_is_no_guidance_and_scale_zero_forgets_the_class(
    name: str, backbone: Backbone, make_request: Make, render: Render
) -> None:
    first, second = (backbone.class_names or ())[:2]
    request = make_request(class_name=first, num_inference_steps=6)
    changes = [
        {"guidance": spec(name, 1.0)},
        {"guidance": MethodSpec(name="none")},
        {"guidance": spec(name, 0.0)},
        {"guidance": spec(name, 0.0), "class_name": second},
        {"guidance": spec(name, 3.0)},
    ]
    base = request.as_json()
    requests = [
        make_request(**{"class_name": base["class_name"], "num_inference_steps": 6, **change})
        for change in changes
    ]
    one, none, zero, zero_other, three = (end.value for end in render(backbone, requests))

    torch.testing.assert_close(one, none, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(zero, zero_other, atol=1e-5, rtol=1e-5)
    for different in (zero, three):
        assert not torch.allclose(one, different, atol=1e-3)


@pytest.mark.parametrize("name", GUIDANCE)
def test_cost_of_a_step_is_as_announced(
    name: str, backbone: Backbone, make_request: Make, render: Render
) -> None:
    first = (backbone.class_names or ())[0]
    for scale in (0.0, 1.0, 2.0):
        request = make_request(
            class_name=first, guidance=spec(name, scale), num_inference_steps=10, image_guidance=40
        )
        (done,) = render(backbone, [request], sources_of(backbone, 1))
        announced = build("guidance", spec(name, scale)).calls_per_step
        assert done.num_model_calls <= 6 * announced + 1e-9


@pytest.mark.parametrize("name", GUIDANCE)
def test_a_null_conditioning_is_used_only_where_it_is_said_to_be_needed(
    name: str, mixture: Any
) -> None:
    for scale in (0.0, 1.0, 2.0):
        guidance = build("guidance", spec(name, scale))
        if guidance.needs_unconditional:
            continue
        cond = mixture.condition([""], ["rare"])[0]
        denoise = guidance.denoiser(Target(cond=cond, uncond=None, label=2, source=None))
        program = denoise(torch.zeros(1, 1, 2), mixture.schedule.levels(4)[1])
        (end,) = Engine(mixture, 4).run([(0, program)])
        assert end.value is not None


class HalfPrecision:
    """A backbone whose network computes in bfloat16, as on a GPU."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone
        self.schedule, self.device = backbone.schedule, backbone.device

    def forward(self, x_t: Tensor, timesteps: Tensor, cond: Any) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self._backbone.forward(x_t, timesteps, cond).bfloat16()


@pytest.mark.parametrize("name", GUIDANCE)
def test_half_precision_network_stays_finite_and_near(name: str, tiny_unet: Backbone) -> None:
    """The arithmetic of guidance is float32 whatever the network computes in."""
    yes, no = tiny_unet.condition([""], ["cat"])[0], tiny_unet.unconditional()
    source = sources_of(tiny_unet, 1)[0]
    guidance = build("guidance", spec(name, 7.5))
    levels = tiny_unet.schedule.levels(4)

    def programs() -> Iterator[tuple[NoiseLevel, Program[Prediction]]]:
        target = Target(cond=yes, uncond=no, label=0, source=source)
        for level in levels[:-1]:
            yield level, guidance.denoiser(target)(source, level)

    exact = {end.key: end.value for end in Engine(tiny_unet, 8).run(programs())}
    half = Engine(HalfPrecision(tiny_unet), 8)  # type: ignore[arg-type]
    for end in half.run(programs()):
        for found, expected in (
            (end.value.x_0, exact[end.key].x_0),
            (end.value.eps, exact[end.key].eps),
        ):
            assert found.dtype == torch.float32
            assert found.isfinite().all()
            assert float((found - expected).abs().max()) < 0.2
