"""Pixel-space UNets as diffusers' own pipelines save them, against those pipelines."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    PNDMScheduler,
    ScoreSdeVeScheduler,
    UNet2DModel,
)
from safetensors.torch import load_file, save_file

from generators.backbones.pixel_unet import PixelUnet
from generators.errors import CheckpointError, ConfigError
from generators.pixel_folder import SCHEDULER, WEIGHTS
from generators.registry import MethodSpec

NAMES = ("cat", "red fox", "wolf")
STEPS = 8


def tiny_unet(**settings: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return UNet2DModel(
            **{
                "sample_size": 8,
                "block_out_channels": (8, 16),
                "layers_per_block": 1,
                "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
                "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
                "norm_num_groups": 4,
                **settings,
            }
        ).eval()


def bare(folder: Path, scheduler: Any = None, **settings: Any) -> Path:
    tiny_unet(**settings).save_pretrained(folder)
    (scheduler or DDPMScheduler()).save_config(folder)
    return folder


@pytest.mark.parametrize("pipeline", [DDPMPipeline, DDIMPipeline])
def test_saved_pipelines_equal_ddim(
    pipeline: Any, tmp_path: Path, make_request: Callable[..., Any], render: Callable[..., Any]
) -> None:
    scheduler = DDPMScheduler() if pipeline is DDPMPipeline else DDIMScheduler(beta_end=0.015)
    pipeline(unet=tiny_unet(), scheduler=scheduler).save_pretrained(tmp_path)
    backbone = PixelUnet(path=str(tmp_path)).load("cpu")
    sampler = MethodSpec(name="ddim", params={"clip_sample": True})
    request = make_request(sampler=sampler, num_inference_steps=STEPS)
    (done,) = render(backbone, [request])

    theirs = DDIMPipeline.from_pretrained(tmp_path)
    theirs.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(request.noise_seed)
    images = theirs(generator=generator, num_inference_steps=STEPS, output_type="np").images
    expected = torch.from_numpy(images[0]).permute(2, 0, 1)
    made = (done.value / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)
    assert backbone.class_names is None
    assert backbone.condition(["", ""], ["any", "thing"]) == [{}, {}]
    with pytest.raises(ConfigError, match="unconditional, there is nothing to guide away from"):
        backbone.unconditional()


@pytest.mark.parametrize("guidance", [0, 50])
@pytest.mark.parametrize(("embeddings", "scale"), [(4, 3.0), (3, 1.0)])
def test_classes_without_a_card(
    embeddings: int,
    scale: float,
    guidance: int,
    tmp_path: Path,
    make_request: Callable[..., Any],
    render: Callable[..., Any],
) -> None:
    """A solver of their own spacing, with a null class and without."""
    folder = bare(tmp_path, DPMSolverMultistepScheduler(), num_class_embeds=embeddings)
    backbone = PixelUnet(path=str(folder), class_names=NAMES).load("cpu")
    request = make_request(
        class_name="wolf",
        image_guidance=guidance,
        num_inference_steps=STEPS,
        sampler=MethodSpec(name="dpm_solver_pp_2m"),
        guidance=MethodSpec(name="cfg", params={"guidance_scale": scale}),
    )
    source = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    (done,) = render(backbone, [request], [source])

    network, scheduler = tiny_unet(num_class_embeds=embeddings), DPMSolverMultistepScheduler()
    scheduler.set_timesteps(STEPS)
    timesteps = scheduler.timesteps[STEPS * guidance // 100 :]
    scheduler.set_begin_index(STEPS * guidance // 100)
    generator = torch.Generator().manual_seed(request.noise_seed)
    x_t = torch.randn(1, 3, 8, 8, generator=generator)
    if guidance:
        x_t = scheduler.add_noise(source[None], x_t, timesteps[:1])
    with torch.no_grad():
        for timestep in timesteps:
            output = network(x_t, timestep, class_labels=torch.tensor([2])).sample
            if scale != 1:
                no = network(x_t, timestep, class_labels=torch.tensor([3])).sample
                output = no + scale * (output - no)
            x_t = scheduler.step(output, timestep, x_t).prev_sample
    torch.testing.assert_close(done.value, x_t[0], atol=1e-4, rtol=1e-4)
    if embeddings == 3:
        with pytest.raises(ConfigError, match="trained without a null class"):
            backbone.unconditional()


def test_class_numbers_embedded_like_timesteps(tmp_path: Path) -> None:
    folder = bare(tmp_path, class_embed_type="timestep")
    backbone = PixelUnet(path=str(folder), class_names=NAMES).load("cpu")
    x_t = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    (cond,) = backbone.condition([""], ["wolf"])

    expected = tiny_unet(class_embed_type="timestep")(x_t, 10, class_labels=torch.tensor([2]))
    made = backbone.forward(x_t, torch.tensor([10.0]), cond)
    torch.testing.assert_close(made, expected.sample)
    with pytest.raises(ConfigError, match="trained without a null class"):
        backbone.unconditional()


def test_timesteps_of_a_learned_table(tmp_path: Path) -> None:
    learned = {"time_embedding_type": "learned", "num_train_timesteps": 1000}
    backbone = PixelUnet(path=str(bare(tmp_path, **learned))).load("cpu")
    x_t = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = tiny_unet(**learned)(x_t, torch.tensor([999, 3])).sample
    torch.testing.assert_close(backbone.forward(x_t, torch.tensor([999.0, 3.0]), {}), expected)


def test_a_card_and_names_that_are_given_are_the_same_classes(
    tiny_unet_folder: Path, tmp_path: Path
) -> None:
    """Also in a pipeline's layout: what decides pixels is the same, so the fingerprint is."""
    (tmp_path / "unet").mkdir()
    for name in ("config.json", WEIGHTS):
        shutil.copy(tiny_unet_folder / name, tmp_path / "unet")
    shutil.copy(tiny_unet_folder / SCHEDULER, tmp_path)
    given = PixelUnet(path=str(tmp_path), class_names=NAMES).load("cpu")

    assert given.class_names == NAMES
    assert given.fingerprint == PixelUnet(path=str(tiny_unet_folder)).load("cpu").fingerprint


def test_other_image_sizes(tmp_path: Path) -> None:
    path = str(bare(tmp_path, PNDMScheduler()))
    own, named, larger = (
        PixelUnet(path=path, image_size=size).load("cpu") for size in (None, 8, 12)
    )
    assert (own.sample_shape, larger.pixel_shape) == ((3, 8, 8), (3, 12, 12))
    assert own.fingerprint == named.fingerprint != larger.fingerprint
    with pytest.raises(ConfigError, match=r"image_size: 13 .* multiple of 2"):
        PixelUnet(path=path, image_size=13).check()


@pytest.mark.parametrize(
    ("settings", "names", "error", "message"),
    [
        ({"num_class_embeds": 4}, None, CheckpointError, r"card\.json .* missing.* class_names"),
        ({"num_class_embeds": 4}, NAMES[:2], ConfigError, r"3 \(the last one .* or 4 names"),
        ({}, NAMES, ConfigError, "class_names: .* this network is unconditional"),
        ({"class_embed_type": "timestep"}, (), ConfigError, "some names"),
        ({"class_embed_type": "identity"}, NAMES, CheckpointError, "'identity' is not supported"),
        ({"sample_size": None}, None, CheckpointError, "sample_size is not given; set image_size"),
    ],
)
def test_networks_that_do_not_fit_are_refused_before_loading(
    settings: dict[str, Any],
    names: tuple[str, ...] | None,
    error: type[Exception],
    message: str,
    tmp_path: Path,
) -> None:
    folder = bare(tmp_path, **settings)
    with pytest.raises(error, match=message):
        PixelUnet(path=str(folder), class_names=names).check()


def test_networks_on_images_and_strange_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="out_channels 3; expected in_channels 6"):
        PixelUnet(path=str(bare(tmp_path / "a", in_channels=6))).load("cpu")
    folder = bare(tmp_path / "b")
    weights = load_file(folder / WEIGHTS)
    save_file({**weights, "more": torch.zeros(1)}, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"are unexpected, e\.g\. more"):
        PixelUnet(path=str(folder)).load("cpu")
    (folder / WEIGHTS).rename(folder / "diffusion_pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"missing .*bin is a pickle and is not read"):
        PixelUnet(path=str(folder)).check()


def test_models_of_other_kinds_are_refused(tmp_path: Path) -> None:
    bare(tmp_path, ScoreSdeVeScheduler())
    with pytest.raises(CheckpointError, match="'ScoreSdeVeScheduler' is not supported"):
        PixelUnet(path=str(tmp_path)).check()
    bare(tmp_path)
    index = {"_class_name": "LDMPipeline", "unet": ["diffusers", "UNet2DModel"]}
    (tmp_path / "model_index.json").write_text(
        json.dumps({**index, "vqvae": ["diffusers", "VQModel"]})
    )
    with pytest.raises(CheckpointError, match="LDMPipeline has unet, vqvae; expected"):
        PixelUnet(path=str(tmp_path)).check()
    (tmp_path / "model_index.json").write_text(json.dumps({**index, "vqvae": [None, None]}))
    PixelUnet(path=str(tmp_path)).check()
    config = json.loads((tmp_path / "config.json").read_text())
    config["_class_name"] = "UNet2DConditionModel"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="'UNet2DConditionModel'; expected 'UNet2DModel'"):
        PixelUnet(path=str(tmp_path)).check()
