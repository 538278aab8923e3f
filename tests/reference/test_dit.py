"""DiT against diffusers' class-to-image pipeline and its own scheduler's loop."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiTPipeline
from torch import Tensor

from generators.backbones.base import Backbone
from generators.backbones.dit import Dit
from generators.errors import CheckpointError, ConfigError
from generators.records import GenerationRequest
from generators.registry import MethodSpec
from tests.support.tiny_transformers import LATENT_SHAPE, save_dit, saved_as_before

STEPS = 10
LABELS = {0: "tench, Tinca tinca", 1: "wolf", 134: "crane", 517: "crane", 999: "toilet tissue"}
SAMPLER = MethodSpec(name="ddim", params={"clip_sample": True})  # as the checkpoints' scheduler
Make = Callable[..., GenerationRequest]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A folder, our backbone on it and diffusers' pipeline."""

    folder: Path
    backbone: Backbone
    pipeline: Any


@pytest.fixture(scope="module")
def dit(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = save_dit(tmp_path_factory.mktemp("dit"), LABELS)
    pipeline = DiTPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return Case(folder=folder, backbone=Dit(path=str(folder)).load("cpu"), pipeline=pipeline)


def source(seed: int = 0) -> Tensor:
    return torch.randn(LATENT_SHAPE, generator=torch.Generator().manual_seed(seed))


def from_noise(case: Case, request: GenerationRequest) -> Tensor:
    """Pixels in [0, 1]: the pipeline hands out no latents."""
    return torch.as_tensor(
        case.pipeline(
            class_labels=[request.label],
            guidance_scale=float(request.guidance.params["guidance_scale"]),
            num_inference_steps=STEPS,
            generator=torch.Generator().manual_seed(request.noise_seed),
            output_type="pt",
        ).images[0]
    )


@torch.no_grad()
def from_source(case: Case, request: GenerationRequest, latents: Tensor, null: int) -> Tensor:
    """The image-to-image loop diffusers would have: its scheduler and its transformer."""
    scheduler = case.pipeline.scheduler
    scheduler.set_timesteps(STEPS)
    timesteps = scheduler.timesteps[STEPS * request.image_guidance // 100 :]
    generator = torch.Generator().manual_seed(request.noise_seed)
    noise = torch.randn((1, *LATENT_SHAPE), generator=generator)
    x_t = scheduler.add_noise(latents[None], noise, timesteps[:1])
    for timestep in timesteps:
        output = case.pipeline.transformer(
            torch.cat([x_t, x_t]),
            timestep=timestep.expand(2),
            class_labels=torch.tensor([null, request.label]),
        ).sample.chunk(2, dim=1)[0]
        away, towards = output.chunk(2)
        scale = float(request.guidance.params["guidance_scale"])
        x_t = scheduler.step(away + scale * (towards - away), timestep, x_t).prev_sample
    return torch.as_tensor(x_t[0])


def request_of(make: Make, guidance: int, scale: float, name: str, label: int) -> GenerationRequest:
    return make(
        image_guidance=guidance,
        class_name=name,
        label=label,
        guidance=MethodSpec(name="cfg", params={"guidance_scale": scale}),
        sampler=SAMPLER,
        num_inference_steps=STEPS,
    )


REQUESTS = [
    (0, 1.0, "wolf", 1),
    (0, 7.5, "Tinca tinca", 0),
    (0, 2.0, "134", 134),
    (30, 2.0, "tench, Tinca tinca", 0),
    (50, 7.5, "toilet tissue", 999),
    (90, 1.0, "wolf", 1),
]


def test_one_engine_run_equals_the_pipeline(dit: Case, make_request: Make, render: Any) -> None:
    """Different levels, scales and classes share batches, and each equals the pipeline alone."""
    requests = [request_of(make_request, *row) for row in REQUESTS]
    sources = [source(seed) for seed in range(len(requests))]
    finished = render(dit.backbone, requests, sources, 4)

    for request, latents, done in zip(requests, sources, finished, strict=True):
        if request.image_guidance == 0:
            made = (dit.backbone.decode(done.value[None]) / 2 + 0.5)[0]
            torch.testing.assert_close(made, from_noise(dit, request), atol=1e-5, rtol=1e-5)
        else:
            expected = from_source(dit, request, latents, null=1000)
            torch.testing.assert_close(done.value, expected, atol=2e-5, rtol=2e-5)
        (alone,) = render(dit.backbone, [request], [latents])
        torch.testing.assert_close(done.value, alone.value, atol=2e-5, rtol=2e-5)


def test_a_checkpoint_of_few_classes_has_its_null_class_behind_them(
    tmp_path: Path, make_request: Make, render: Any
) -> None:
    folder = save_dit(tmp_path, None, num_classes=3)
    pipeline = DiTPipeline.from_pretrained(folder)
    backbone = Dit(path=str(folder)).load("cpu")
    request = request_of(make_request, 40, 3.0, "2", 2)
    (done,) = render(backbone, [request], [source()])

    case = Case(folder=folder, backbone=backbone, pipeline=pipeline)
    expected = from_source(case, request, source(), null=3)
    torch.testing.assert_close(done.value, expected, atol=2e-5, rtol=2e-5)
    assert backbone.class_names == ("0", "1", "2")
    with pytest.raises(ConfigError, match=r"class_name: '3' is not allowed"):
        backbone.condition([""], ["3"])


def test_every_class_has_a_name_of_its_own(dit: Case) -> None:
    conds = dit.backbone.condition([""] * 4, ["tench", "Tinca tinca", "0", "517"])
    assert [int(cond["class"]) for cond in conds] == [0, 0, 0, 517]
    assert dit.pipeline.get_label_ids(["tench", "wolf"]) == [0, 1]
    assert dit.backbone.class_names is not None
    assert len(dit.backbone.class_names) == 1000 + 5
    with pytest.raises(ConfigError, match="class_name: 'crane' is not allowed"):
        dit.backbone.condition([""], ["crane"])
    assert int(dit.backbone.unconditional()["class"]) == 1000


def test_sizes_and_timesteps_of_rows(dit: Case) -> None:
    assert (dit.backbone.sample_shape, dit.backbone.pixel_shape) == (LATENT_SHAPE, (3, 16, 16))
    x_t = torch.stack([source(seed) for seed in range(3)])
    conds = dit.backbone.condition([""] * 3, ["0", "1", "2"])
    timesteps = torch.tensor([0.0, 500.0, 999.0])
    together = dit.backbone.forward(
        x_t, timesteps, {"class": torch.cat([cond["class"] for cond in conds])}
    )
    for row, cond in enumerate(conds):
        alone = dit.backbone.forward(x_t[row : row + 1], timesteps[row : row + 1], cond)
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-6, rtol=1e-5)
    assert float((together[0] - together[1]).abs().max()) > 1e-3


def test_the_first_checkpoints_named_a_general_transformer(
    dit: Case, tmp_path: Path, make_request: Make, render: Any
) -> None:
    old = Dit(path=str(saved_as_before(dit.folder, tmp_path / "old"))).load("cpu")
    request = request_of(make_request, 0, 2.0, "wolf", 1)
    (done,) = render(old, [request], [source()])
    made = (old.decode(done.value[None]) / 2 + 0.5)[0]
    torch.testing.assert_close(made, from_noise(dit, request), atol=1e-5, rtol=1e-5)


def test_mistakes_are_found_before_loading(dit: Case, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dit.folder, tmp_path / "copy"))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "id2label": {"1000": "cat"}}))
    with pytest.raises(CheckpointError, match=r"names class '1000'; expected 0\.\.999"):
        Dit(path=str(folder)).check()
    (folder / "model_index.json").write_text(
        json.dumps({**index, "_class_name": "PixArtAlphaPipeline"})
    )
    with pytest.raises(CheckpointError, match="another family; use the backbone 'pixart'"):
        Dit(path=str(folder)).check()
    shutil.rmtree(folder / "vae")
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="vae: folder is missing"):
        Dit(path=str(folder)).check()
