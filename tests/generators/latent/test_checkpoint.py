"""Broken checkpoints are found before weights are read, with words that help."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from generators.backbones.stable_diffusion import FAMILY, StableDiffusion
from generators.backbones.stable_diffusion_xl import StableDiffusionXL
from generators.errors import CheckpointError
from generators.latent.checkpoint import find_checkpoint
from tests.support.folders import UNET, edit, refused

Copy = Callable[[], Path]


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def test_a_sound_folder_passes(copy: Copy) -> None:
    folder = copy()
    (folder / "vae" / "diffusion_pytorch_model.bin.incomplete").write_bytes(b"of no use")
    StableDiffusion(path=str(folder)).check()


def test_another_family_is_told_its_backbone(tiny_sd_folder: Path, tiny_sdxl_folder: Path) -> None:
    refused(tiny_sdxl_folder, "StableDiffusionXLPipeline", "use the backbone 'stable_diffusion_xl'")
    with pytest.raises(CheckpointError, match="use the backbone 'stable_diffusion'"):
        StableDiffusionXL(path=str(tiny_sd_folder)).check()


def test_pipelines_nobody_loads(copy: Copy) -> None:
    folder = copy()
    edit(folder / "model_index.json", _class_name="KandinskyPipeline")
    refused(folder, "model_index.json", "'KandinskyPipeline'", "StableDiffusionPipeline")
    edit(folder / "model_index.json", _class_name=["my_code", "MyPipeline"])
    refused(folder, "model_index.json", "my_code")


def test_code_of_a_checkpoint_is_never_run(copy: Copy) -> None:
    folder = copy()
    edit(folder / "model_index.json", unet=["my_code", "MyUNet"])
    refused(folder, "my_code.MyUNet", "no code of a checkpoint is run")


def test_what_is_no_folder(tiny_sd_folder: Path, tmp_path: Path) -> None:
    refused("no such folder", "'no such folder'", "org/name")
    refused(tmp_path, "model_index.json", "missing")
    refused(tiny_sd_folder / "unet", "model_index.json", "give the folder above it")
    refused(tiny_sd_folder / UNET, "is a file", "from_single_file")


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "unet/config.json",
        UNET,
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "scheduler/scheduler_config.json",
    ],
)
def test_missing_files_are_named(name: str, copy: Copy) -> None:
    folder = copy()
    (folder / name).unlink()
    refused(folder, str(folder / name), "missing")


def test_missing_folders_and_tokenizers(copy: Copy) -> None:
    folder = copy()
    shutil.rmtree(folder / "vae")
    refused(folder, str(folder / "vae"), "folder is missing")

    folder = copy()
    edit(folder / "model_index.json", vae="absent")
    refused(folder, "names no 'vae'")

    folder = copy()
    (folder / "tokenizer" / "tokenizer.json").unlink()
    refused(folder, str(folder / "tokenizer"), "vocab.json and merges.txt")


def test_configs_that_are_no_json(copy: Copy) -> None:
    folder = copy()
    cut(folder / "unet" / "config.json", 50)
    refused(folder, str(folder / "unet" / "config.json"), "not JSON")
    (folder / "unet" / "config.json").write_text("[1]")
    refused(folder, "not a JSON object")


@pytest.mark.parametrize("left", [0, 5, 300, 30_000])
def test_truncated_weights_say_how_long_they_must_be(left: int, copy: Copy) -> None:
    folder = copy()
    whole = (folder / UNET).stat().st_size
    cut(folder / UNET, left)
    refused(folder, str(folder / UNET), f"{left} bytes", "download it again")
    if left == 30_000:
        refused(folder, str(whole))


def test_files_that_are_no_weights(copy: Copy) -> None:
    folder = copy()
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"
    (folder / UNET).write_text(pointer)
    refused(folder, str(folder / UNET), "git lfs pull")
    (folder / UNET).write_bytes(b"\x10" + b"\0" * 7 + b"no JSON at all !")
    refused(folder, str(folder / UNET), "not a safetensors file")
    (folder / UNET).write_bytes(b"PK\x03\x04" + b"\xff" * 100)
    refused(folder, str(folder / UNET), "not a safetensors file")


def test_half_a_download_is_named(copy: Copy) -> None:
    folder = copy()
    (folder / UNET).unlink()
    part = folder / ".cache" / "huggingface" / "download" / "unet" / "x.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"")
    refused(folder, str(folder / UNET), str(part), "unfinished download")


def test_pickles_are_never_loaded(copy: Copy) -> None:
    folder = copy()
    torch.save(load_file(folder / UNET), folder / "unet" / "diffusion_pytorch_model.bin")
    StableDiffusion(path=str(folder)).check()
    (folder / UNET).unlink()
    refused(folder, "diffusion_pytorch_model.bin", "never loaded", "safe_serialization")


def shard(folder: Path, variant: str = "") -> list[Path]:
    """Splits the UNet's weights in two, as `save_pretrained` with a small max_shard_size does."""
    tensors = load_file(folder / UNET)
    (folder / UNET).unlink()
    names = sorted(tensors)
    parts, where = [names[::2], names[1::2]], {}
    stem = f"diffusion_pytorch_model{f'.{variant}' if variant else ''}"
    for number, part in enumerate(parts, 1):
        file = f"{stem}-0000{number}-of-00002.safetensors"
        save_file({n: tensors[n] for n in part}, folder / "unet" / file, {"format": "pt"})
        where.update(dict.fromkeys(part, file))
    index = f"diffusion_pytorch_model.safetensors.index{f'.{variant}' if variant else ''}.json"
    (folder / "unet" / index).write_text(
        json.dumps({"metadata": {"total_size": 1}, "weight_map": where})
    )
    return [folder / "unet" / name for name in sorted(set(where.values()))]


def test_weights_in_several_files(copy: Copy, tiny_sd_folder: Path) -> None:
    folder = copy()
    first, second = shard(folder)
    backbone = StableDiffusion(path=str(folder)).load("cpu")
    whole = StableDiffusion(path=str(tiny_sd_folder)).load("cpu")
    cond = whole.condition(["a photo of a cat"], ["cat"])[0]
    x_t = torch.randn(1, *whole.sample_shape)
    with torch.inference_mode():
        made = [b.forward(x_t, torch.tensor([500.0]), cond) for b in (backbone, whole)]
    # Not bit for bit: where a mapped file puts a tensor decides which CPU kernel reads it.
    torch.testing.assert_close(*made, atol=1e-5, rtol=0)
    weights = [b._network._pipeline.unet.state_dict() for b in (backbone, whole)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())

    kept = second.read_bytes()
    second.unlink()
    refused(folder, str(second), "index.json names it")
    second.write_bytes(kept[:-10])
    refused(folder, str(second), f"{len(kept) - 10} bytes")
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text("{}")
    refused(folder, str(index), "no weight_map")
    assert first.is_file()


def halve(folder: Path, names: list[str]) -> None:
    """Renames weights to the fp16 variant, in float16."""
    for name in names:
        file = folder / name
        tensors = {n: t.half() for n, t in load_file(file).items()}
        save_file(tensors, file.with_suffix(".fp16.safetensors"), {"format": "pt"})
        file.unlink()


def test_variants(copy: Copy) -> None:
    folder = copy()
    refused(folder, "no weights of the variant 'fp16'", "its variants: none", variant="fp16")
    halve(folder, [UNET, "text_encoder/model.safetensors"])
    refused(folder, str(folder / UNET), "'fp16'", "set `variant`")
    refused(folder, "variant 'fp61'", "'fp16'", variant="fp61")
    backbone = StableDiffusion(path=str(folder), variant="fp16").load("cpu")
    assert backbone.condition(["a"], ["a"])[0]["prompt"].dtype == torch.float32

    checkpoint = find_checkpoint(FAMILY, str(folder), "fp16")
    used = {name: part.variant for name, part in checkpoint.components.items()}
    assert (used["unet"], used["vae"]) == ("fp16", None)
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").rename(folder / UNET)
    shard(folder, "fp16")
    StableDiffusion(path=str(folder), variant="fp16").load("cpu")


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder"])
def test_weights_that_do_not_fit(component: str, copy: Copy) -> None:
    def load(folder: Path, match: str) -> None:
        spec = StableDiffusion(path=str(folder))
        spec.check()  # headers alone do not show it
        with pytest.raises(CheckpointError, match=match) as caught:
            spec.load("cpu")
        assert str(folder / component) in str(caught.value)

    folder = copy()
    (file,) = (folder / component).glob("*.safetensors")
    tensors = load_file(file)
    first = min(tensors)
    save_file({n: t for n, t in tensors.items() if n != first}, file, {"format": "pt"})
    load(folder, "missing keys")
    save_file({**tensors, "of_another_network": torch.zeros(1)}, file, {"format": "pt"})
    load(folder, "unexpected keys: of_another_network")
    wider = {**tensors, first: torch.zeros(*tensors[first].shape, 2)}
    save_file(wider, file, {"format": "pt"})
    load(folder, first)


def test_position_ids_of_old_text_encoders_are_no_mistake(copy: Copy) -> None:
    folder = copy()
    file = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(file)
    ids = torch.arange(77)[None]
    name = "text_model.embeddings.position_ids"
    save_file({**tensors, name: ids}, file, {"format": "pt"})
    StableDiffusion(path=str(folder)).load("cpu")


def test_networks_of_other_inputs(copy: Copy) -> None:
    folder = copy()
    config = folder / "unet" / "config.json"
    edit(config, in_channels=9)
    refused(folder, str(config), "9 input channels", "inpainting")
    edit(config, in_channels=4, addition_embed_type="text_time")
    refused(folder, str(config), "addition_embed_type is 'text_time'")
    edit(config, addition_embed_type=None, class_embed_type="projection")
    refused(folder, str(config), "class_embed_type")
    folder = copy()
    edit(folder / "model_index.json", unet=["diffusers", "UNet2DModel"])
    refused(folder, "a UNet2DModel; expected UNet2DConditionModel")


def test_schedules_no_run_could_follow(copy: Copy) -> None:
    folder = copy()
    config = folder / "scheduler" / "scheduler_config.json"
    edit(config, rescale_betas_zero_snr=True)
    refused(folder, "rescale_betas_zero_snr", "'v_prediction'")
    edit(config, prediction_type="v_prediction")
    StableDiffusion(path=str(folder)).check()
    edit(config, _class_name="FlowMatchEulerDiscreteScheduler")
    refused(folder, "'FlowMatchEulerDiscreteScheduler'", "DDIMScheduler")


def test_configs_of_the_first_releases_are_repaired_as_diffusers_does(copy: Copy) -> None:
    folder = copy()
    edit(folder / "unet" / "config.json", _diffusers_version="0.6.0", sample_size=32)
    edit(folder / "scheduler" / "scheduler_config.json", steps_offset=0, clip_sample=True)

    backbone = StableDiffusion(path=str(folder)).load("cpu")

    assert backbone.sample_shape == (4, 64, 64)  # 32 was a default nobody had trained
    assert [level.timestep for level in backbone.schedule.levels(2)] == [501.0, 1.0, 0.0]


def test_settings_a_checkpoint_does_not_have(tiny_sd_folder: Path) -> None:
    refused(tiny_sd_folder, "image_size: 33", "multiple of 2", image_size=33)
    refused(tiny_sd_folder, "clip_skip: 4", "0..3", clip_skip=4)
    refused(tiny_sd_folder, "embedded_guidance: 3.0", "cfg", embedded_guidance=3.0)
    backbone = StableDiffusion(path=str(tiny_sd_folder), image_size=48).load("cpu")
    assert (backbone.sample_shape, backbone.pixel_shape) == ((4, 24, 24), (3, 48, 48))
