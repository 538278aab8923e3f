"""Small real things that many tests share: an exact mixture, tiny networks on disk."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from generators.backbones.base import Backbone
from generators.backbones.toy import GaussianMixture, Toy
from generators.engine import Engine, Finished
from generators.records import GenerationRequest
from generators.registry import MethodSpec
from generators.render import Job, Renderer

MIXTURE = Toy(
    means={
        "left": [[-1.0, -0.6], [-0.8, 0.6]],
        "right": [[0.9, 0.7], [1.1, -0.1]],
        "rare": [[0.1, 1.2], [0.2, -1.2]],
    },
    prior={"left": 0.6, "right": 0.35, "rare": 0.05},
)
CLASS_NAMES = ("cat", "red fox", "wolf")

torch.set_num_threads(1)  # tiny networks: a second thread only waits, on a busy machine for long

Render = Callable[..., list[Finished[int, Tensor]]]


@pytest.fixture(scope="session")
def mixture() -> GaussianMixture:
    """The two-dimensional reference mixture with exact scores: left, right, rare."""
    backbone = MIXTURE.load("cpu")
    assert isinstance(backbone, GaussianMixture)
    return backbone


@pytest.fixture(scope="session")
def tiny_unet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised 3-channel 8x8 UNet of three classes, as `Fit.save` writes it."""
    from generators.fit import Fit, FitSpec

    folder = tmp_path_factory.mktemp("unet")
    spec = FitSpec(block_out_channels=(8, 16), seed=3)
    pixels = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    fit = Fit(spec, pixels, torch.tensor([0]), len(CLASS_NAMES), "cpu")
    fit.save(folder, {"class_names": list(CLASS_NAMES)})
    return folder


@pytest.fixture(scope="session")
def unet_with(
    tiny_unet_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Copies the tiny UNet's folder with another scheduler config."""

    def copy(**scheduler: Any) -> Path:
        folder = tmp_path_factory.mktemp("unet")
        for file in tiny_unet_folder.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        (folder / "scheduler_config.json").write_text(json.dumps(scheduler))
        return folder

    return copy


@pytest.fixture(scope="session")
def tiny_unet(tiny_unet_folder: Path) -> Backbone:
    """The tiny UNet, loaded."""
    from generators.backbones.pixel_unet import PixelUnet

    return PixelUnet(path=str(tiny_unet_folder)).load("cpu")


@pytest.fixture(scope="session")
def make_request() -> Callable[..., GenerationRequest]:
    """A request with some fields of your choice."""
    base = GenerationRequest(
        source_key="source-1",
        source_sha256="0" * 64,
        label=1,
        class_name="right",
        prompt="",
        image_guidance=0,
        seed=0,
        num_inference_steps=10,
        guidance=MethodSpec(name="none"),
        sampler=MethodSpec(name="ddim"),
        backbone="fingerprint",
    )
    return lambda **changes: replace(base, **changes)


@pytest.fixture(scope="session")
def render() -> Render:
    """Runs requests through renderer and engine; results in the order of the requests."""

    def run(
        backbone: Backbone,
        requests: Sequence[GenerationRequest],
        sources: Sequence[Tensor] | Tensor | None = None,
        max_batch_size: int = 16,
    ) -> list[Finished[int, Tensor]]:
        renderer, engine = Renderer(backbone), Engine(backbone, max_batch_size)

        def programs() -> Iterator[tuple[int, Any]]:
            for index, request in enumerate(requests):
                source = torch.zeros(backbone.sample_shape) if sources is None else sources[index]
                cond = backbone.condition([request.prompt], [request.class_name])[0]
                yield index, renderer.program(Job(request=request, source=source, cond=cond))

        finished = list(engine.run(programs()))
        return sorted(finished, key=lambda done: done.key)

    return run
