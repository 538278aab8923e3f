from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import PAGIdentitySelfAttnProcessor2_0

from generators.backbones.base import Backbone
from generators.backbones.pixel_unet import PixelUnet
from generators.backbones.stable_diffusion import StableDiffusion
from generators.backbones.toy import GaussianMixture
from generators.engine import Engine
from generators.errors import ConfigError
from generators.guidance.perturbed_attention import PerturbedAttention
from generators.models import Models
from generators.registry import MethodSpec, build
from generators.steering.attention import perturbed, self_attentions
from tests.support.guidance import Laws, given, target_of
from tests.support.tiny_pipelines import save_sd, save_sdxl
from tests.support.tiny_transformers import save_dit, save_flux, save_pixart, save_sd3

LAWS = Laws(
    grid=given(
        {"guidance_scale": 3.0},
        {"guidance_scale": 5.0, "layers": ["mid_block", "up_blocks"]},
        {"guidance_scale": 1.0, "layers": ["down_blocks.1.attentions.0"]},
    ),
    off=lambda *_: {"guidance_scale": 0.0},
    backbones=("tiny_unet",),
)


def test_equals_diffusers_own_processor(tiny_sd_folder: Path) -> None:
    """`PAGIdentitySelfAttnProcessor2_0` on the same layers of the same weights."""
    backbone = StableDiffusion(path=str(tiny_sd_folder)).load("cpu")
    layers = self_attentions(backbone)
    assert layers
    assert all(name.endswith("attn1") for name in layers)
    network = perturbed(Models(backbone), {n: (1.0,) * heads for n, heads in layers.items()})
    cond = backbone.condition(["a cat"], ["cat"])[0]
    x_t = torch.randn(1, *backbone.sample_shape)
    ours = network.forward(x_t, torch.tensor([300.0]), cond)
    plain = backbone.forward(x_t, torch.tensor([300.0]), cond)

    reference = StableDiffusion(path=str(tiny_sd_folder)).load("cpu")
    unet: Any = reference.denoiser
    for name in layers:
        unet.get_submodule(name).set_processor(Doubled())
    wanted = reference.forward(x_t, torch.tensor([300.0]), cond)
    assert not torch.allclose(ours, plain, atol=1e-4)
    torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=1e-5)


class Doubled(PAGIdentitySelfAttnProcessor2_0):
    """Diffusers' processor expects original and perturbed rows in one batch: both are given."""

    def __call__(self, attn: Any, hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        both = super().__call__(attn, torch.cat([hidden_states] * 2), *args, **kwargs)
        return both[len(hidden_states) :]


def test_the_network_itself_is_not_touched(tiny_unet: Backbone) -> None:
    models, x_t = Models(tiny_unet), torch.randn(2, 3, 8, 8)
    cond = {"class": torch.tensor([0, 1])}
    before = tiny_unet.forward(x_t, torch.tensor([500.0, 20.0]), cond)
    heads = self_attentions(tiny_unet)
    network = perturbed(models, {name: (1.0,) * count for name, count in heads.items()})
    assert network is perturbed(models, {name: (1.0,) * count for name, count in heads.items()})
    other = network.forward(x_t, torch.tensor([500.0, 20.0]), cond)
    after = tiny_unet.forward(x_t, torch.tensor([500.0, 20.0]), cond)
    assert torch.equal(before, after)
    assert not torch.allclose(before, other, atol=1e-4)
    own = dict(tiny_unet.denoiser.named_parameters())  # type: ignore[union-attr]
    copied: Any = network
    for name, parameter in copied.denoiser.named_parameters():
        assert parameter.data_ptr() == own[name].data_ptr()  # no second set of weights


def test_one_position_attends_to_itself_anyway(tmp_path: Path) -> None:
    """A feature map of 1x1: A = I already."""
    network = UNet2DModel(
        sample_size=2,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        num_class_embeds=4,
    )
    network.save_pretrained(tmp_path)
    (tmp_path / "scheduler_config.json").write_text('{"_class_name": "DDIMScheduler"}')
    backbone = PixelUnet(path=str(tmp_path), class_names=("a", "b", "c")).load("cpu")
    target = target_of(backbone)
    x_t, level = torch.randn(1, 2, 2), backbone.schedule.levels(4)[1]
    engine = Engine(backbone, 2)
    one, other = (
        next(iter(engine.run([(0, denoise(x_t, level))]))).value
        for denoise in (target.conditional, PerturbedAttention().denoiser(target))
    )
    assert one is not None
    assert other is not None
    torch.testing.assert_close(one.eps, other.eps, atol=1e-5, rtol=0)


def test_by_default_the_middle(tiny_unet: Backbone) -> None:
    assert list(self_attentions(tiny_unet)) == [
        "down_blocks.1.attentions.0",
        "up_blocks.0.attentions.0",
        "up_blocks.0.attentions.1",
        "mid_block.attentions.0",
    ]
    target = target_of(tiny_unet)
    x_t, level = torch.randn(3, 8, 8), tiny_unet.schedule.levels(4)[1]
    engine = Engine(tiny_unet, 2)
    found = [
        next(iter(engine.run([(0, guidance.denoiser(target)(x_t, level))]))).value
        for guidance in (PerturbedAttention(), PerturbedAttention(layers=("mid_block",)))
    ]
    assert found[0] is not None
    assert found[1] is not None
    assert torch.equal(found[0].eps, found[1].eps)


LATENT: dict[str, Callable[[Path], Path]] = {
    "stable_diffusion": save_sd,
    "stable_diffusion_xl": save_sdxl,
    "stable_diffusion_3": save_sd3,
    "pixart": save_pixart,
    "flux": save_flux,
    "dit": lambda folder: save_dit(folder, None),
}


def test_works_on_every_latent_family(tmp_path: Path) -> None:
    for family, save in LATENT.items():
        spec = MethodSpec(name=family, params={"path": str(save(tmp_path / family))})
        backbone = build("backbone", spec).load("cpu")
        layers = self_attentions(backbone)
        assert layers, family
        network = perturbed(Models(backbone), {n: (1.0,) * h for n, h in layers.items()})
        name = (backbone.class_names or ("cat",))[0]
        cond = backbone.condition(["a cat"], [name])[0]
        x_t = torch.randn(1, *backbone.sample_shape)
        timestep = torch.tensor([backbone.schedule.levels(4)[1].timestep])
        plain = backbone.forward(x_t, timestep, cond)
        assert not torch.allclose(network.forward(x_t, timestep, cond), plain, atol=1e-5), family
        assert torch.equal(backbone.forward(x_t, timestep, cond), plain)


def test_a_network_without_attention_is_refused(
    mixture: GaussianMixture, tiny_unet: Backbone
) -> None:
    with pytest.raises(ConfigError, match="no self-attention"):
        PerturbedAttention().check(Models(mixture))
    with pytest.raises(ConfigError, match=r"layers\.0: 'midblock' .*mid_block"):
        PerturbedAttention(layers=("midblock",)).check(Models(tiny_unet))
