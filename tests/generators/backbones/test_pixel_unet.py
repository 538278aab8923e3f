import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from generators.backbones.base import Backbone
from generators.backbones.pixel_unet import FILES, PixelUnet
from generators.errors import CheckpointError, ConfigError
from generators.registry import MethodSpec, build

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tiny_unet_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_unet_folder, tmp_path / "copy"))


def load(folder: Path) -> Backbone:
    return PixelUnet(path=str(folder)).load("cpu")


def test_rows_of_a_batch_have_their_own_timestep_and_class(tiny_unet: Backbone) -> None:
    x_t = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    timesteps = torch.tensor([0.0, 400.0, 999.0])
    conds = [*tiny_unet.condition(["", ""], ["wolf", "cat"]), tiny_unet.unconditional()]
    packed = tiny_unet.forward(
        x_t, timesteps, {"class": torch.cat([cond["class"] for cond in conds])}
    )

    for row, cond in enumerate(conds):
        alone = tiny_unet.forward(x_t[row : row + 1], timesteps[row : row + 1], cond)
        torch.testing.assert_close(packed[row : row + 1], alone, atol=1e-5, rtol=1e-4)
    assert [int(cond["class"]) for cond in conds] == [2, 0, 3]


def test_shapes_names_and_range(tiny_unet: Backbone) -> None:
    assert tiny_unet.sample_shape == tiny_unet.pixel_shape == (3, 8, 8)
    assert tiny_unet.class_names == ("cat", "red fox", "wolf")
    assert tiny_unet.schedule.prediction_type == "v_prediction"
    assert tiny_unet.schedule.timestep_spacing == "trailing"
    assert tiny_unet.decode(torch.tensor([-2.0, 0.5, 3.0])).tolist() == [-1.0, 0.5, 1.0]
    with pytest.raises(ConfigError, match=r"class_name: 'wolfe' .*did you mean 'wolf'"):
        tiny_unet.condition([""], ["wolfe"])


def test_fingerprint_follows_what_decides_pixels(folder: Path) -> None:
    before = load(folder).fingerprint
    card = json.loads((folder / "card.json").read_text())

    (folder / "card.json").write_text(json.dumps({**card, "note": "retold"}))
    assert load(folder).fingerprint == before
    (folder / "card.json").write_text(json.dumps({"class_names": card["class_names"][::-1]}))
    renamed = load(folder).fingerprint
    weights = load_file(folder / WEIGHTS)
    weights["conv_in.bias"] += 1e-3
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    assert len({before, renamed, load(folder).fingerprint}) == 3


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load(folder)


@pytest.mark.filterwarnings("ignore")
def test_damaged_weights_are_a_checkpoint_error(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="cannot load"):
        load(folder)

    (folder / WEIGHTS).write_bytes(whole)
    weights = load_file(folder / WEIGHTS)
    del weights["class_embedding.weight"]
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing, e\.g\. class_embedding\.weight"):
        load(folder)


def test_card_and_network_must_agree_on_the_classes(folder: Path) -> None:
    (folder / "card.json").write_text('{"class_names": ["cat", "wolf"]}')
    with pytest.raises(CheckpointError, match="2 class_names, but the network has 4"):
        load(folder)
    (folder / "card.json").write_text("{")
    with pytest.raises(CheckpointError, match="not JSON"):
        load(folder)


def test_unknown_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        PixelUnet(path=str(tmp_path / "nowhere")).load("cpu")


def test_schedule_is_read_from_the_folder(unet_with: Callable[..., Path]) -> None:
    from diffusers import DDIMScheduler

    settings = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "prediction_type": "epsilon",
        "timestep_spacing": "leading",
        "steps_offset": 1,
        "set_alpha_to_one": False,
    }
    schedule = load(unet_with(**settings)).schedule
    reference = DDIMScheduler(**settings)

    torch.testing.assert_close((schedule.alphas**2).float(), reference.alphas_cumprod)
    assert schedule.steps_offset == 1
    assert schedule.prediction_type == "epsilon"
    assert schedule.final_alpha**2 == pytest.approx(float(reference.final_alpha_cumprod))


def test_learned_variance_is_dropped(folder: Path) -> None:
    from diffusers import UNet2DModel

    network = UNet2DModel(
        sample_size=8,
        out_channels=6,
        block_out_channels=(8,),
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=2,
        add_attention=False,
    )
    network.save_pretrained(folder)

    backbone = load(folder)
    assert backbone.forward(torch.zeros(2, 3, 8, 8), torch.zeros(2), {}).shape == (2, 3, 8, 8)


def test_bfloat16_is_near_float32_and_has_a_fingerprint_of_its_own(folder: Path) -> None:
    exact, fast = (
        PixelUnet(path=str(folder), dtype=dtype).load("cpu") for dtype in ("float32", "bfloat16")
    )
    x_t = torch.randn(4, *exact.sample_shape, generator=torch.Generator().manual_seed(0))
    cond = {"class": torch.zeros(4, dtype=torch.long)}
    wanted, found = (one.forward(x_t, torch.full((4,), 500.0), cond) for one in (exact, fast))
    assert found.dtype == torch.float32
    error = float((found - wanted).norm() / wanted.norm())
    assert 0 < error < 0.03  # 8 bits of mantissa
    assert exact.fingerprint != fast.fingerprint
    with pytest.raises(ConfigError, match=r"dtype: 'float16' is not allowed"):
        build("backbone", MethodSpec(name="pixel_unet", params={"dtype": "float16"}))
