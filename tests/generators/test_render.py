from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from generators.backbones.toy import GaussianMixture
from generators.engine import Engine, Finished
from generators.errors import ConfigError
from generators.records import GenerationRequest
from generators.registry import MethodSpec
from generators.render import Job, Renderer

Make = Callable[..., GenerationRequest]
Render = Callable[..., list[Finished[int, Tensor]]]
SOURCE = torch.tensor([0.9, 0.7]).view(1, 1, 2)


def test_a_hundred_percent_is_the_source_itself_without_a_model_call(
    mixture: GaussianMixture, make_request: Make, render: Render
) -> None:
    (done,) = render(mixture, [make_request(image_guidance=100)], [SOURCE])

    assert done.num_model_calls == 0
    assert done.value is not None
    assert torch.equal(done.value, SOURCE)


def test_zero_percent_does_not_see_the_source(
    mixture: GaussianMixture, make_request: Make, render: Render
) -> None:
    """Stable Diffusion's last alpha is not 0: noising the source would let it shine through."""
    assert mixture.schedule.levels(10)[0].alpha > 0.05
    free, other = render(mixture, [make_request(), make_request()], [SOURCE, -SOURCE])
    near, far = render(mixture, [make_request(image_guidance=10)] * 2, [SOURCE, -SOURCE])

    assert torch.equal(free.value, other.value)
    assert not torch.equal(near.value, far.value)


def test_start_is_the_source_noised_with_the_noise_of_the_request(
    mixture: GaussianMixture, make_request: Make
) -> None:
    request = make_request(image_guidance=40)
    cond = mixture.condition([""], ["right"])[0]
    program = Renderer(mixture).program(Job(request=request, source=SOURCE, cond=cond))

    (first,) = next(program)

    level = mixture.schedule.levels(10, 40)[0]
    generator = torch.Generator().manual_seed(request.noise_seed)
    noise = torch.randn(1, 1, 2, generator=generator)
    assert first.level == level
    torch.testing.assert_close(first.x_t, level.alpha * SOURCE + level.sigma * noise)


def test_distance_to_the_source_falls_with_image_guidance(
    mixture: GaussianMixture, make_request: Make, render: Render
) -> None:
    levels = (0, 20, 40, 60, 80, 100)
    requests = [
        make_request(image_guidance=level, seed=seed) for level in levels for seed in range(60)
    ]
    done = render(mixture, requests, [SOURCE] * len(requests), max_batch_size=64)
    distances = torch.stack([(end.value - SOURCE).norm() for end in done]).view(len(levels), -1)
    means = distances.mean(1).tolist()

    assert means[-1] == 0
    assert all(low > high for low, high in pairwise(means)), means


def test_guidance_without_a_null_class_is_a_config_error(
    make_request: Make, unet_with: Callable[..., Any], tmp_path: Any
) -> None:
    """An unconditional network has nothing to guide towards, but samples without guidance."""
    from diffusers import UNet2DModel

    from generators.backbones.pixel_unet import PixelUnet

    folder = unet_with(num_train_timesteps=1000)
    network = UNet2DModel(
        sample_size=8,
        block_out_channels=(8,),
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=2,
        add_attention=False,
    )
    network.save_pretrained(folder)
    backbone = PixelUnet(path=str(folder)).load("cpu")
    assert backbone.class_names is None
    cond = backbone.condition([""], ["anything"])[0]

    def program(guidance: str) -> Any:
        request = make_request(guidance=MethodSpec(name=guidance), num_inference_steps=2)
        job = Job(request=request, source=torch.zeros(3, 8, 8), cond=cond)
        return Renderer(backbone).program(job)

    (done,) = Engine(backbone, 4).run([(0, program("none"))])
    assert done.value is not None
    assert done.num_model_calls == 2
    with pytest.raises(ConfigError, match="unconditional"):
        next(program("cfg"))
