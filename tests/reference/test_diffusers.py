"""Our samplers against diffusers' schedulers, number by number, through the real loading code."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, UNet2DModel
from torch import Tensor

from generators.backbones.pixel_unet import PixelUnet
from generators.engine import Finished
from generators.noise import NoiseLevel, NoiseSchedule
from generators.program import Prediction, Program
from generators.records import GenerationRequest
from generators.registry import MethodSpec, build

Make = Callable[..., GenerationRequest]
Render = Callable[..., list[Finished[int, Tensor]]]

LINEAR = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
COSINE = {"beta_schedule": "squaredcos_cap_v2", "rescale_betas_zero_snr": True}
LABEL, NULL, SCALE, STEPS = 2, 3, 2.5, 10


def source() -> Tensor:
    return torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(11)) * 2 - 1


class Reference:
    """diffusers' image-to-image loop: its `get_timesteps`, `add_noise`, guidance and `step`."""

    def __init__(self, folder: Path, request: GenerationRequest) -> None:
        self.network = UNet2DModel.from_pretrained(folder).eval()
        self.request = request
        self.generator = torch.Generator().manual_seed(request.noise_seed)

    def guided(self, x_t: Tensor, timestep: Tensor) -> Tensor:
        labels = torch.tensor([NULL, LABEL])
        output = self.network(x_t.expand(2, -1, -1, -1), timestep, class_labels=labels).sample
        no, yes = output.chunk(2)
        return no + SCALE * (yes - no)

    def kept(self, timesteps: Sequence[Any]) -> Sequence[Any]:
        strength = (100 - self.request.image_guidance) / 100
        count = len(timesteps)
        return timesteps[max(count - min(int(count * strength), count), 0) :]

    def start(self, scheduler: Any, timestep: Any) -> Tensor:
        noise = torch.randn(1, 3, 8, 8, generator=self.generator)
        if self.request.image_guidance == 0:
            return noise
        return torch.as_tensor(scheduler.add_noise(source()[None], noise, torch.tensor([timestep])))

    @torch.no_grad()
    def run(self, scheduler: Any, timesteps: Sequence[Any], **options: Any) -> Tensor:
        x_t = self.start(scheduler, timesteps[0])
        for timestep in timesteps:
            output = self.guided(x_t, timestep)
            x_t = scheduler.step(
                output, timestep, x_t, generator=self.generator, **options
            ).prev_sample
        return x_t[0]


@pytest.fixture
def ours(make_request: Make, render: Render) -> Callable[..., tuple[GenerationRequest, Tensor]]:
    def run(folder: Path, sampler: MethodSpec, **changes: Any) -> tuple[GenerationRequest, Tensor]:
        request = make_request(
            class_name="wolf",
            label=LABEL,
            guidance=MethodSpec(name="cfg", params={"guidance_scale": SCALE}),
            sampler=sampler,
            **{"num_inference_steps": STEPS, **changes},
        )
        (done,) = render(PixelUnet(path=str(folder)).load("cpu"), [request], [source()])
        assert done.value is not None
        return request, done.value

    return run


def close(made: Tensor, expected: Tensor) -> None:
    """To 1e-4 of the image's own scale: an untrained network leaves [-1, 1] far behind."""
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(made / scale, expected / scale, atol=1e-4, rtol=0)


DDIM_CASES: list[tuple[dict[str, Any], int]] = [
    ({**LINEAR, "prediction_type": "epsilon", "timestep_spacing": "leading"}, 0),
    ({**LINEAR, "prediction_type": "epsilon", "timestep_spacing": "trailing"}, 20),
    (
        {
            **LINEAR,
            "prediction_type": "epsilon",
            "timestep_spacing": "leading",
            "steps_offset": 1,
            "set_alpha_to_one": False,
        },
        50,
    ),
    ({**COSINE, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}, 0),
    ({**COSINE, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}, 80),
    ({**COSINE, "prediction_type": "sample", "timestep_spacing": "trailing"}, 50),
    ({**LINEAR, "prediction_type": "sample", "timestep_spacing": "leading"}, 70),
]


@pytest.mark.parametrize(("config", "image_guidance"), DDIM_CASES)
@pytest.mark.parametrize("eta", [0.0, 0.6])
@pytest.mark.parametrize("clip_sample", [False, True])
def test_ddim_equals_diffusers(
    config: dict[str, Any],
    image_guidance: int,
    eta: float,
    clip_sample: bool,
    unet_with: Callable[..., Path],
    ours: Callable[..., tuple[GenerationRequest, Tensor]],
) -> None:
    folder = unet_with(**config)
    sampler = MethodSpec(name="ddim", params={"eta": eta, "clip_sample": clip_sample})
    request, made = ours(folder, sampler, image_guidance=image_guidance)

    reference = Reference(folder, request)
    scheduler = DDIMScheduler(**config, clip_sample=clip_sample)
    scheduler.set_timesteps(STEPS)
    expected = reference.run(scheduler, reference.kept(scheduler.timesteps), eta=eta)

    close(made, expected)


def schedule_of(config: dict[str, Any]) -> NoiseSchedule:
    return NoiseSchedule.from_alphas_cumprod(
        DDIMScheduler(**config).alphas_cumprod,
        config["prediction_type"],
        timestep_spacing=config["timestep_spacing"],
    )


def timesteps_of(config: dict[str, Any], request: GenerationRequest) -> list[int]:
    levels = schedule_of(config).levels(request.num_inference_steps, request.image_guidance)
    return [int(level.timestep) for level in levels[:-1]]


@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
def test_ddim_with_uneven_steps_equals_first_order_dpm_solver(
    spacing: str,
    unet_with: Callable[..., Path],
    ours: Callable[..., tuple[GenerationRequest, Tensor]],
) -> None:
    """Where T is no multiple of the steps, DDIMScheduler leaves its own grid; this one does not."""
    config = {**LINEAR, "prediction_type": "epsilon", "timestep_spacing": spacing}
    folder = unet_with(**config)
    request, made = ours(folder, MethodSpec(name="ddim"), num_inference_steps=7, image_guidance=25)

    scheduler = DPMSolverMultistepScheduler(
        **LINEAR, prediction_type="epsilon", algorithm_type="dpmsolver++", solver_order=1
    )
    timesteps = timesteps_of(config, request)
    assert len(timesteps) == 5
    scheduler.set_timesteps(timesteps=timesteps)
    close(made, Reference(folder, request).run(scheduler, scheduler.timesteps))


@pytest.mark.parametrize(
    ("prediction_type", "spacing", "steps", "image_guidance", "lower_order_final"),
    [
        ("epsilon", "leading", 10, 0, True),
        ("epsilon", "trailing", 20, 0, True),
        ("epsilon", "linspace", 10, 30, False),
        ("v_prediction", "trailing", 12, 25, True),
        ("v_prediction", "trailing", 20, 0, False),
        ("sample", "leading", 10, 60, True),
    ],
)
def test_dpm_solver_equals_diffusers(
    prediction_type: str,
    spacing: str,
    steps: int,
    image_guidance: int,
    lower_order_final: bool,
    unet_with: Callable[..., Path],
    ours: Callable[..., tuple[GenerationRequest, Tensor]],
) -> None:
    config = {**LINEAR, "prediction_type": prediction_type, "timestep_spacing": spacing}
    folder = unet_with(**config)
    sampler = MethodSpec(name="dpm_solver_pp_2m", params={"lower_order_final": lower_order_final})
    request, made = ours(folder, sampler, num_inference_steps=steps, image_guidance=image_guidance)

    scheduler = DPMSolverMultistepScheduler(
        **LINEAR,
        prediction_type=prediction_type,
        algorithm_type="dpmsolver++",
        solver_type="midpoint",
        solver_order=2,
        lower_order_final=lower_order_final,
    )
    timesteps = timesteps_of(config, request)
    scheduler.set_timesteps(timesteps=timesteps)
    close(made, Reference(folder, request).run(scheduler, scheduler.timesteps))


@pytest.mark.parametrize(("steps", "lower_order_final"), [(10, True), (10, False), (20, True)])
def test_dpm_solver_to_a_final_alpha_of_its_own_equals_diffusers(
    steps: int,
    lower_order_final: bool,
    unet_with: Callable[..., Path],
    ours: Callable[..., tuple[GenerationRequest, Tensor]],
) -> None:
    """Stable Diffusion's `set_alpha_to_one: false` is the solver's `sigma_min`."""
    config = {**LINEAR, "prediction_type": "epsilon", "timestep_spacing": "leading"}
    folder = unet_with(**config, set_alpha_to_one=False, steps_offset=1)
    sampler = MethodSpec(name="dpm_solver_pp_2m", params={"lower_order_final": lower_order_final})
    request, made = ours(folder, sampler, num_inference_steps=steps)

    scheduler = DPMSolverMultistepScheduler(
        **LINEAR,
        prediction_type="epsilon",
        algorithm_type="dpmsolver++",
        lower_order_final=lower_order_final,
        final_sigmas_type="sigma_min",
    )
    scheduler.set_timesteps(timesteps=[t + 1 for t in timesteps_of(config, request)])
    close(made, Reference(folder, request).run(scheduler, scheduler.timesteps))


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_step_counts_choose_diffusers_timesteps(spacing: str) -> None:
    config = {**LINEAR, "prediction_type": "epsilon", "timestep_spacing": spacing}
    scheduler, schedule = DDIMScheduler(**config), schedule_of(config)
    for steps in (*range(1, 121), 200, 250, 333, 500, 999, 1000):
        scheduler.set_timesteps(steps)
        found = [int(level.timestep) for level in schedule.levels(steps)[:-1]]
        expected = [max(0, t) for t in scheduler.timesteps.tolist()]
        assert found == expected[:steps], steps


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_noise_scale_is_the_root_of_diffusers_variance(eta: float) -> None:
    scheduler = DDIMScheduler(**LINEAR)
    sampler = build("sampler", MethodSpec(name="ddim", params={"eta": eta}))
    zero = torch.zeros(1, 1, 1)

    def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
        return Prediction(x_0=zero, eps=zero)
        yield ()

    def level(timestep: int) -> NoiseLevel:
        cumulative = float(scheduler.alphas_cumprod[timestep])
        return NoiseLevel(
            timestep=timestep, alpha=cumulative**0.5, sigma=(1 - cumulative) ** 0.5, progress=0
        )

    z = torch.randn(1, 1, 1, generator=torch.Generator().manual_seed(2))
    for now, after in ((999, 949), (500, 450), (50, 1)):
        program = sampler.sample(
            denoise, zero, [level(now), level(after)], torch.Generator().manual_seed(2)
        )
        with pytest.raises(StopIteration) as stop:
            next(program)
        deviation = eta * scheduler._get_variance(now, after) ** 0.5
        torch.testing.assert_close(stop.value.value, deviation * z)
