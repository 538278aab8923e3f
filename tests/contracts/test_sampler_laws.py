"""Laws of every sampler."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from generators.backbones.base import Backbone
from generators.backbones.toy import GaussianMixture, Toy
from generators.engine import Engine, Finished
from generators.noise import NoiseLevel
from generators.program import Denoiser, ModelCall, Prediction, Program
from generators.records import GenerationRequest
from generators.registry import MethodSpec, build, describe, names

Make = Callable[..., GenerationRequest]
Render = Callable[..., list[Finished[int, Tensor]]]
SAMPLERS = names("sampler")


def variants(name: str) -> list[MethodSpec]:
    """The defaults, and every switch and share turned on."""
    specs = [MethodSpec(name=name)]
    for parameter in describe("sampler", name).parameters:
        if parameter.type == "bool":
            specs.append(MethodSpec(name=name, params={parameter.name: not parameter.default}))
        if parameter.name == "eta":
            specs.append(MethodSpec(name=name, params={"eta": 1.0}))
    return specs


VARIANTS = [pytest.param(spec, id=str(spec.as_json())) for n in SAMPLERS for spec in variants(n)]


def conditional(backbone: Backbone, name: str) -> Denoiser:
    cond = backbone.condition([""], [name])[0]

    def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
        (prediction,) = yield (ModelCall(x_t=x_t, level=level, cond=cond),)
        return prediction

    return denoise


def sample(
    backbone: Backbone, spec: MethodSpec, x_t: Tensor, levels: Sequence[NoiseLevel], name: str
) -> Tensor:
    sampler = build("sampler", spec)
    generator = torch.Generator().manual_seed(0)
    program = sampler.sample(conditional(backbone, name), x_t, levels, generator)
    (end,) = Engine(backbone, 1).run([(0, program)])
    made: Tensor = end.value
    return made


@pytest.mark.parametrize("spec", VARIANTS)
@pytest.mark.parametrize("steps", [1, 2, 5, 20, 50])
def test_ideal_denoiser_gives_back_the_data(spec: MethodSpec, steps: int) -> None:
    """One point of data: every start, at every level, must end there."""
    point = torch.tensor([0.4, -0.7, 0.1, 0.9]).view(1, 2, 2)
    mean = point.flatten().tolist()
    backbone = Toy(means={"point": [mean]}, variance=1e-6, shape=(1, 2, 2)).load("cpu")
    generator = torch.Generator().manual_seed(3)
    for level in (0, 50):
        levels = backbone.schedule.levels(steps, level)
        noise = torch.randn(1, 2, 2, generator=generator)
        start = levels[0].alpha * point + levels[0].sigma * noise
        made = sample(backbone, spec, start, levels, "point")
        torch.testing.assert_close(made, point, atol=5e-3, rtol=0)


@pytest.mark.parametrize("spec", VARIANTS)
def test_packed_equals_alone(
    spec: MethodSpec, tiny_unet: Backbone, make_request: Make, render: Render
) -> None:
    requests = [
        make_request(
            class_name=("cat", "wolf")[index % 2],
            seed=index,
            image_guidance=(0, 30, 60, 90)[index % 4],
            num_inference_steps=(3, 8, 16)[index % 3],
            guidance=MethodSpec(name="cfg", params={"guidance_scale": (1.0, 2.0)[index % 2]}),
            sampler=spec,
        )
        for index in range(12)
    ]
    generator = torch.Generator().manual_seed(1)
    sources = torch.rand(12, 3, 8, 8, generator=generator) * 2 - 1
    packed = render(tiny_unet, requests, sources, max_batch_size=5)
    for request, source, end in zip(requests, sources, packed, strict=True):
        (alone,) = render(tiny_unet, [request], [source], max_batch_size=1)
        torch.testing.assert_close(end.value, alone.value, atol=1e-3, rtol=0)
        assert end.num_model_calls == alone.num_model_calls


@pytest.mark.parametrize("spec", VARIANTS)
def test_a_sample_depends_on_its_own_generator_alone(
    spec: MethodSpec, mixture: GaussianMixture, make_request: Make, render: Render
) -> None:
    request = make_request(sampler=spec, num_inference_steps=6)
    before = torch.random.get_rng_state()
    first, other, second = render(
        mixture, [request, make_request(sampler=spec, seed=9), request], max_batch_size=2
    )

    assert torch.equal(first.value, second.value)
    assert not torch.equal(first.value, other.value)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("spec", VARIANTS)
def test_no_step_left_returns_the_start(spec: MethodSpec, mixture: GaussianMixture) -> None:
    start = torch.tensor([0.1, 0.2]).view(1, 1, 2)
    levels = mixture.schedule.levels(10, 100)

    assert len(levels) == 1
    assert torch.equal(sample(mixture, spec, start, levels, "left"), start)


@pytest.mark.parametrize("spec", VARIANTS)
def test_the_network_is_asked_at_falling_levels_of_the_schedule(
    spec: MethodSpec, mixture: GaussianMixture
) -> None:
    levels = mixture.schedule.levels(9, 20)
    asked: list[float] = []

    def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
        asked.append(level.timestep)
        prediction: Any = yield from conditional(mixture, "left")(x_t, level)
        return prediction

    sampler = build("sampler", spec)
    program = sampler.sample(denoise, torch.zeros(1, 1, 2), levels, torch.Generator())
    list(Engine(mixture, 1).run([(0, program)]))

    assert asked[0] == levels[0].timestep
    assert asked == sorted(asked, reverse=True)
    assert len(asked) >= len(levels) - 1


@pytest.mark.parametrize("spec", VARIANTS)
def test_finite_from_zero_signal_and_to_a_final_alpha_of_its_own(
    spec: MethodSpec, tiny_unet: Backbone, unet_with: Callable[..., Any]
) -> None:
    from generators.backbones.pixel_unet import PixelUnet

    assert tiny_unet.schedule.levels(20)[0].alpha == 0
    folder = unet_with(
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        timestep_spacing="leading",
        set_alpha_to_one=False,
    )
    other = PixelUnet(path=str(folder)).load("cpu")
    assert other.schedule.levels(20)[-1].sigma > 0
    generator = torch.Generator().manual_seed(2)
    for backbone in (tiny_unet, other):
        start = torch.randn(3, 8, 8, generator=generator)
        made = sample(backbone, spec, start, backbone.schedule.levels(20), "cat")
        assert made.isfinite().all()
        assert made.dtype == torch.float32
