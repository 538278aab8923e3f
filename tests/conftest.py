"""Small real things that many tests share: an exact mixture, tiny networks on disk."""

import json
import os
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
from infra.storage.runs import RunStore
from tests.support.tiny_run import tiny_config

MIXTURE = Toy(
    means={
        "left": [[-1.0, -0.6], [-0.8, 0.6]],
        "right": [[0.9, 0.7], [1.1, -0.1]],
        "rare": [[0.1, 1.2], [0.2, -1.2]],
    },
    prior={"left": 0.6, "right": 0.35, "rare": 0.05},
)
CLASS_NAMES = ("cat", "red fox", "wolf")

os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # no token in the user's folder
# Tiny networks: a second thread only waits, on a busy machine for long. Also of what is started.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

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
    from generators.fit import Fit
    from generators.fit_spec import FitSpec

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


@pytest.fixture(scope="session")
def tiny_classifier_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small classifier of three classes, trained for no step, as a run saves it, on noise."""
    from generators.class_statistics import statistics_of
    from generators.classifier_file import ClassifierInfo, save_classifier
    from generators.classifiers import create_classifier

    path = tmp_path_factory.mktemp("classifier") / "real.safetensors"
    network = create_classifier("small_cnn", len(CLASS_NAMES), 3, seed=1)
    info = ClassifierInfo(
        model="small_cnn", class_names=CLASS_NAMES, channels=3, image_size=(16, 16)
    )
    images = torch.rand(30, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        features = network.eval().forward_features(images)  # type: ignore[operator]
        embeddings = network.forward_head(features, pre_logits=True)  # type: ignore[operator]
    labels = torch.arange(30) % len(CLASS_NAMES)
    save_classifier(
        path, network, info, statistics_of(embeddings, network(images).detach(), labels)
    )
    return path


@pytest.fixture(scope="session")
def tiny_timm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """timm's smallest ResNet with five outputs in its hub layout, with a data config of its own."""
    import timm
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("timm")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        network = timm.create_model("test_resnet", num_classes=5)
    save_file(network.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    data = {
        "input_size": [3, 40, 40],
        "crop_pct": 0.8,
        "interpolation": "bicubic",
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.3, 0.25],
    }
    config = {"architecture": "test_resnet", "num_classes": 5, "pretrained_cfg": data}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def tiny_sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised Stable Diffusion that predicts noise; 32x32 images. Read only."""
    from tests.support.tiny_pipelines import save_sd

    return save_sd(tmp_path_factory.mktemp("sd"))


@pytest.fixture(scope="session")
def tiny_sdxl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised SDXL base model; 32x32 images. Read only."""
    from tests.support.tiny_pipelines import save_sdxl

    return save_sdxl(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="session")
def tiny_clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised CLIP with a tokenizer and an image processor of its own."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    folder = tmp_path_factory.mktemp("clip")
    tokenizer = _tiny_tokenizer(folder)
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text = {**tower, **ids, "num_hidden_layers": 1, "vocab_size": len(tokenizer)}
    vision = {**tower, "num_hidden_layers": 1, "image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = CLIPModel(config)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    model.save_pretrained(folder)
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_safety_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A randomly initialised safety checker with its image processor, as in a checkpoint."""
    from tests.support.tiny_safety import save_safety_checker

    return save_safety_checker(tmp_path_factory.mktemp("safety"))


def _tiny_tokenizer(folder: Path) -> Any:
    """CLIP's own tokenizer class, trained on a few words."""
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    symbols = list(bytes_to_unicode().values())
    words = [*symbols, *(symbol + "</w>" for symbol in symbols), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    base = CLIPTokenizer.from_pretrained(folder)
    texts = [f"a photo of a {name}" for name in CLASS_NAMES] * 4
    return base.train_new_from_iterator(texts, vocab_size=600)


@pytest.fixture(scope="session")
def prefect_harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Prefect server of its own for all flow tests of this session."""
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect"))
    from infra.prefect_server import QUIET

    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def finished_run(prefect_harness: None, tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """The store of a tiny run that came to its end, on the local pool."""
    from flows.run import run
    from tasks.runtime import COMMAND

    config = tiny_config()
    store = RunStore(tmp_path_factory.mktemp("run") / "output")
    token = COMMAND.set("discl run tiny.yaml")
    run(config, str(store.root))
    COMMAND.reset(token)
    return store
