"""Options of a run: which exclude each other, and that none but the data type changes images."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import Tensor

from generators.backbones.base import Backbone
from generators.backbones.stable_diffusion import FAMILY, StableDiffusion, StableDiffusionNetwork
from generators.backbones.stable_diffusion_xl import StableDiffusionXL
from generators.errors import ConfigError
from generators.latent.autoencoder import Autoencoder
from generators.latent.checkpoint import find_checkpoint
from generators.latent.pipeline import OpenPipeline, open_pipeline
from generators.latent.runtime import Runtime, _compile, place
from generators.registry import MethodSpec, build
from tests.support.tiny_pipelines import IMAGE_SIZE, LATENT_SHAPE, tiny_unet

CPU = torch.device("cpu")


def latents() -> Tensor:
    return torch.randn(3, *LATENT_SHAPE, generator=torch.Generator().manual_seed(2))


@torch.inference_mode()
def outputs(backbone: Backbone) -> list[Tensor]:
    """Of everything the engine calls, for two prompts and three rows."""
    conds = backbone.condition(["a photo of a cat", "wolf at night"], ["", ""])
    rows = [*conds, backbone.unconditional()]
    cond = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    timesteps = torch.tensor([900.0, 500.0, 20.0])
    noise = backbone.forward(latents(), timesteps, cond).float()
    images = backbone.decode(latents())
    return [noise, images, backbone.encode(images)]


def same(made: list[Tensor], expected: list[Tensor], atol: float) -> None:
    for one, other in zip(made, expected, strict=True):
        torch.testing.assert_close(one, other, atol=atol, rtol=0)


@pytest.fixture(scope="module")
def plain(tiny_sd_folder: Path) -> list[Tensor]:
    runtime = Runtime(channels_last=False)
    return outputs(StableDiffusion(path=str(tiny_sd_folder), runtime=runtime).load("cpu"))


@pytest.mark.parametrize(
    ("options", "atol"),
    [
        ({}, 1e-5),
        ({"attention": "sliced"}, 1e-5),
        ({"vae_slicing": True}, 1e-5),
        ({"vae_tiling": True}, 1e-5),  # the image is one tile
        ({"dtype": "bfloat16"}, 0.15),
        ({"dtype": "float16"}, 0.02),
        pytest.param({"compile": "blocks"}, 1e-4, marks=pytest.mark.slow),
        pytest.param({"compile": "full"}, 1e-4, marks=pytest.mark.slow),
    ],
)
def test_options_give_the_same_images(
    options: dict[str, Any], atol: float, plain: list[Tensor], tiny_sd_folder: Path
) -> None:
    backbone = StableDiffusion(path=str(tiny_sd_folder), runtime=Runtime(**options)).load("cpu")

    made = outputs(backbone)

    same(made, plain, atol)
    if "dtype" in options:
        assert not torch.allclose(made[0], plain[0], atol=1e-6)


@pytest.mark.slow
def test_a_compiled_network_takes_batches_of_any_size(tiny_sdxl_folder: Path) -> None:
    spec = StableDiffusionXL(path=str(tiny_sdxl_folder), runtime=Runtime(compile="blocks"))
    compiled: Any = spec.load("cpu")
    eager = StableDiffusionXL(path=str(tiny_sdxl_folder)).load("cpu")
    blocks = [
        type(module).__name__
        for module in compiled._network._pipeline.unet.modules()
        if module._compiled_call_impl is not None
    ]
    assert blocks == ["BasicTransformerBlock"] * 4
    cond = eager.condition(["a photo of a cat"], [""])[0]
    for count in (1, 3, 2, 5):
        x_t = torch.randn(count, *LATENT_SHAPE)
        rows = {name: torch.cat([value] * count) for name, value in cond.items()}
        with torch.inference_mode():
            made, expected = (
                b.forward(x_t, torch.full((count,), 300.0), rows) for b in (compiled, eager)
            )
        torch.testing.assert_close(made, expected, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_networks_of_many_widths_stay_compiled() -> None:
    """Torch's own limit of versions of a block is soon reached, and then it runs uncompiled."""
    network = tiny_unet(
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=16,
    ).eval()
    limits = torch._dynamo.config.patch(recompile_limit=2, fail_on_recompile_limit_hit=True)
    with limits, torch.inference_mode():
        _compile(network, blocks=True)
        for count in (1, 4, 3):
            x_t, text = torch.randn(count, *LATENT_SHAPE), torch.randn(count, 77, 16)
            network(x_t, torch.full((count,), 9.0), encoder_hidden_states=text)


def test_bfloat16_has_its_dtype_everywhere(tiny_sdxl_folder: Path) -> None:
    spec = StableDiffusionXL(path=str(tiny_sdxl_folder), runtime=Runtime(dtype="bfloat16"))
    backbone = spec.load("cpu")

    cond = backbone.condition(["a photo of a cat"], [""])[0]

    kinds = {name: value.dtype for name, value in cond.items()}
    assert kinds == {
        "prompt": torch.bfloat16,
        "pooled": torch.bfloat16,
        "time_ids": torch.float32,  # 1000 is no number in bfloat16
    }
    noise, images, encoded = outputs(backbone)
    assert all(torch.isfinite(part).all() for part in (noise, images, encoded))


def test_model_offloading_moves_networks_and_gives_the_same_images(
    plain: list[Tensor], tiny_sd_folder: Path
) -> None:
    """Onto the CPU, for want of another device: the hooks are the same."""
    checkpoint = find_checkpoint(FAMILY, str(tiny_sd_folder))
    opened = open_pipeline(checkpoint, Runtime(), CPU)
    place(opened.pipeline, Runtime(offload="model"), CPU, frozenset())
    assert len(opened.pipeline._all_hooks) == 3

    same(outputs(offloaded(opened, tiny_sd_folder)), plain, 1e-5)


def offloaded(opened: OpenPipeline, folder: Path) -> Backbone:
    """The backbone around a pipeline that was placed by hand."""
    loaded: Any = StableDiffusion(path=str(folder)).load("cpu")
    assert isinstance(loaded._network, StableDiffusionNetwork)
    loaded._network._opened = opened
    loaded._autoencoder = Autoencoder(opened.pipeline.vae, IMAGE_SIZE, opened.device)
    backbone: Backbone = loaded
    return backbone


@pytest.mark.parametrize(
    ("options", "field", "part"),
    [
        ({"offload": "model", "device_map": "balanced"}, "runtime.offload", "device_map"),
        ({"compile": "full", "offload": "sequential"}, "runtime.compile", "between devices"),
        ({"compile": "full", "device_map": "balanced"}, "runtime.compile", "spread over"),
        ({"compile": "full", "attention": "sliced"}, "runtime.attention", "'sdpa' with compile"),
    ],
)
def test_options_that_exclude_each_other_are_found_before_any_work(
    options: dict[str, Any], field: str, part: str, tiny_sd_folder: Path
) -> None:
    spec = StableDiffusion(path=str(tiny_sd_folder), runtime=Runtime(**options))
    with pytest.raises(ConfigError, match=part) as caught:
        spec.check()
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("options", "field", "part"),
    [
        ({"offload": "model"}, "runtime.offload", "no GPU"),
        ({"offload": "sequential"}, "runtime.offload", "no GPU"),
        ({"device_map": "balanced"}, "runtime.device_map", "two GPUs in one worker, found 0"),
    ],
)
def test_options_a_device_does_not_have_are_found_before_weights_are_read(
    options: dict[str, Any], field: str, part: str, tiny_sd_folder: Path
) -> None:
    spec = StableDiffusion(path=str(tiny_sd_folder), runtime=Runtime(**options))
    spec.check()  # which does not know the device
    with pytest.raises(ConfigError, match=part) as caught:
        spec.load("cpu")
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("has_bfloat16", "dtype", "expected"),
    [
        (True, "auto", torch.bfloat16),
        (False, "auto", torch.float16),
        (False, "float32", torch.float32),
        (True, "bfloat16", torch.bfloat16),
    ],
)
def test_data_type_of_a_gpu(
    has_bfloat16: bool, dtype: Any, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: has_bfloat16
    )
    runtime = Runtime(dtype=dtype)
    assert runtime.torch_dtype(torch.device("cuda")) == expected
    assert Runtime().torch_dtype(CPU) == torch.float32
    if not has_bfloat16:
        with pytest.raises(ConfigError, match="'float16' or 'float32'"):
            Runtime(dtype="bfloat16").check_device(torch.device("cuda"))


def test_options_are_a_section_of_the_method() -> None:
    params = {"path": "x", "runtime": {"dtype": "float16", "compile": "full"}}
    built = build("backbone", MethodSpec(name="stable_diffusion", params=params))
    assert built.runtime == Runtime(dtype="float16", compile="full")

    wrong = MethodSpec(name="stable_diffusion", params={"path": "x", "runtime": {"dtyp": "auto"}})
    with pytest.raises(ConfigError, match=r"backbone\.runtime\.dtyp: .*did you mean 'dtype'"):
        build("backbone", wrong)
