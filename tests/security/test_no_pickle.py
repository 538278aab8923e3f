"""No pickle is read, from disk or network: not by our source, not by the libraries it calls."""

import pickle
import shutil
import tarfile
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from curriculum.sources.cifar import Cifar
from curriculum.sources.handwriting import Handwriting
from curriculum.sources.parquet import Parquet
from curriculum.sources.webdataset import Webdataset
from generators.backbones.pixel_unet import PixelUnet
from generators.backbones.stable_diffusion import StableDiffusion
from generators.classifier_file import load_classifier
from generators.errors import CheckpointError, DataError
from generators.filters.base import JudgeContext
from generators.filters.clip import Clip
from generators.filters.safety import Safety
from generators.filters.timm import TimmClassifier
from generators.latent.adapters import Adapters, Lora, TextualInversion
from infra.storage.checkpoint import load_checkpoint
from tests.infra.jobs.world import png
from tests.support.folders import UNET
from tests.support.forbidden_code import forbidden_code
from tests.support.planted import planted_pickle

ROOT = Path(__file__).parents[2]
PACKAGES = ("generators", "curriculum", "infra", "tasks", "flows", "benchmarks", "examples")
COMPUTED_IMPORTS = {
    "generators/registry.py": "names of files in a folder of ours",
    "generators/latent/pipeline.py": "diffusers or transformers",
}
CONTEXT = JudgeContext(class_names=("a",), classifier=None, device="cpu")


def test_the_project_s_source_runs_nothing_of_others() -> None:
    files = {
        path.relative_to(ROOT).as_posix(): path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    assert {name.partition("/")[0] for name in files} == set(PACKAGES)
    assert COMPUTED_IMPORTS.keys() < files.keys()
    found = [
        f"{name}:{line}"
        for name, path in files.items()
        for line in forbidden_code(path.read_text(), computed_imports=name in COMPUTED_IMPORTS)
    ]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle; pickle.load(stream)",
        "import pickle as p; p.loads(data)",
        "from pickle import loads",
        "from pickle import Unpickler as Reader",
        "import pickle; read(pickle)",
        "def f():\n    import cloudpickle",
        "import dill",
        "import joblib",
        "import shelve",
        "import marshal",
        "from ray import cloudpickle",
        "import ray; ray.cloudpickle.loads(data)",
        "import torch; torch.load(path)",
        "import torch; torch.load(path, weights_only=False)",
        "import torch; torch.load(path, weights_only=trusted)",
        "from torch import load as read; read(path)",
        "import torch; torch.hub.load('a/b', 'c')",
        "import torch; torch.jit.load(path)",
        "import numpy as np; np.load(path, allow_pickle=True)",
        "import numpy as np; np.load(path, allow_pickle=allowed)",
        "import yaml; yaml.load(text)",
        "import yaml; yaml.load(text, Loader=yaml.SafeLoader)",
        "import yaml; yaml.unsafe_load(text)",
        "from yaml import full_load",
        "eval(text)",
        "exec(text)",
        "list(map(eval, texts))",
        "compile(text, 'x', 'exec')",
        "__import__(name)",
        "import os; os.system(text)",
        "from os import system",
        "from os import *",
        "import subprocess; subprocess.run(text, shell=True)",
        "import subprocess; subprocess.Popen(text, shell=wanted)",
        "import subprocess; subprocess.getoutput(text)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "UNet.from_pretrained(name, use_safetensors=False)",
        "UNet.from_pretrained(name, use_safetensors=None)",
        "unet.save_pretrained(folder, safe_serialization=False)",
        "import pandas as pd; pd.read_pickle(path)",
        "frame.to_pickle(path)",
        "timm.models.load_checkpoint(network, path, weights_only=False)",
        "import tarfile; tarfile.open(path).extractall(folder)",
        "import shutil; shutil.unpack_archive(path)",
        "import importlib; importlib.import_module(name)",
        "from importlib import import_module as get; get(f'{a}.b')",
        "import runpy; runpy.run_path(path)",
        "import logging.config; logging.config.dictConfig(data)",
    ],
)
def test_the_walk_finds_what_is_bad(source: str) -> None:
    assert len(forbidden_code(source)) >= 1
    assert len(forbidden_code(f"def outer():\n    class Inner:\n        x = 1\n{source}")) >= 1


@pytest.mark.parametrize(
    "source",
    [
        "from pickle import UnpicklingError",
        "import pickle; len(pickle.dumps(message))",
        "import torch; torch.load(path, weights_only=True)",
        "import numpy as np; np.load(path); np.load(path, allow_pickle=False)",
        "import yaml; yaml.safe_load(text); yaml.safe_dump(data)",
        "network.eval(); re.compile(text); runtime.compile; dataset.load(x)",
        "import subprocess; subprocess.run([program, text], shell=False)",
        "from importlib import import_module; import_module('datasets')",
        "UNet.from_pretrained(name, use_safetensors=True)",
    ],
)
def test_the_walk_lets_the_good_pass(source: str) -> None:
    assert forbidden_code(source) == []


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """What appears where a planted pickle is read."""
    return tmp_path / "mark"


@pytest.fixture
def planted(tmp_path: Path, mark: Path) -> Callable[[str], Path]:
    """Writes a planted pickle to a file of this name, as `pickle` and as torch would."""

    def write(name: str) -> Path:
        path = tmp_path / "planted" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(planted_pickle(mark))
        return path

    return write


def test_a_planted_pickle_leaves_its_mark(planted: Callable[[str], Path], mark: Path) -> None:
    with planted("x.pt").open("rb") as stream:
        pickle.load(stream)
    assert mark.is_dir()  # or the tests below would show nothing
    mark.rmdir()
    with suppress(RuntimeError):  # it is no checkpoint, which torch notices too late
        torch.load(planted("x.pt"), weights_only=False)
    assert mark.is_dir()


def _timm(path: Path) -> object:
    return TimmClassifier(model="test_resnet", weights=str(path), classes=("a",)).load(CONTEXT)


def _lora(path: Path) -> None:
    Adapters(loras=(Lora(path=str(path)),)).check()


def _words(path: Path) -> None:
    Adapters(textual_inversions=(TextualInversion(path=str(path)),)).check()


@pytest.mark.parametrize("end", [".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".npz"])
@pytest.mark.parametrize("load", [load_classifier, load_checkpoint, _timm, _lora, _words])
def test_pickled_files_are_refused_whatever_they_are_called(
    load: Callable[[Path], object], end: str, planted: Callable[[str], Path], mark: Path
) -> None:
    with pytest.raises(CheckpointError):
        load(planted(f"x{end}"))
    assert not mark.exists()


FOLDERS: dict[str, tuple[str, str, str, Callable[[str], object]]] = {
    "diffusers": (
        "tiny_sd_folder",
        UNET,
        "unet/diffusion_pytorch_model.bin",
        lambda path: StableDiffusion(path=path).load("cpu"),
    ),
    "transformers": (
        "tiny_sd_folder",
        "text_encoder/model.safetensors",
        "text_encoder/pytorch_model.bin",
        lambda path: StableDiffusion(path=path).load("cpu"),
    ),
    "pixel": (
        "tiny_unet_folder",
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model.bin",
        lambda path: PixelUnet(path=path).load("cpu"),
    ),
    "clip": (
        "tiny_clip_folder",
        "model.safetensors",
        "pytorch_model.bin",
        lambda path: Clip(path=path).load(CONTEXT),
    ),
    "safety": (
        "tiny_safety_folder",
        "safety_checker/model.safetensors",
        "safety_checker/pytorch_model.bin",
        lambda path: Safety(path=path).load(CONTEXT),
    ),
    "timm": (
        "tiny_timm_folder",
        "model.safetensors",
        "pytorch_model.bin",
        lambda path: TimmClassifier(weights=path, classes=("a", "b", "c", "d", "e")).load(CONTEXT),
    ),
}
"""Fixture of a checkpoint, its weights, what they are called when pickled, and who loads it."""


@pytest.mark.parametrize("as_safetensors", [True, False])
@pytest.mark.parametrize("name", FOLDERS)
def test_pickled_weights_of_a_folder_are_refused(
    name: str, as_safetensors: bool, request: pytest.FixtureRequest, tmp_path: Path, mark: Path
) -> None:
    fixture, weights, pickled, load = FOLDERS[name]
    folder = tmp_path / "copy"
    shutil.copytree(request.getfixturevalue(fixture), folder)
    load(str(folder))
    (folder / weights).unlink()
    (folder / (weights if as_safetensors else pickled)).write_bytes(planted_pickle(mark))
    with pytest.raises(CheckpointError):
        load(str(folder))
    assert not mark.exists()


def test_an_index_of_weights_that_names_pickles_is_refused(
    tiny_sd_folder: Path, tmp_path: Path, mark: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_sd_folder, folder)
    (folder / UNET).unlink()
    (folder / "unet" / "x.bin").write_bytes(planted_pickle(mark))
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text('{"weight_map": {"conv_in.weight": "x.bin"}}')
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        StableDiffusion(path=str(folder)).load("cpu")
    assert not mark.exists()


def test_pickles_in_data_sets_are_bytes(tmp_path: Path, mark: Path) -> None:
    data = planted_pickle(mark)
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, content in (
            ("a.png", png()),
            ("a.cls", b"0"),
            ("a.pickle", data),
            ("a.pyd", data),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, BytesIO(content))
    assert Webdataset(path=str(tmp_path / "x.tar")).open().read(0) == png()
    # pyarrow once unpickled such a type when it read a schema (CVE-2023-47248).
    kind = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": data}
    fields = [pa.field("image", pa.binary()), pa.field("label", pa.int64(), metadata=kind)]
    pq.write_table(pa.table([[png()], [0]], pa.schema(fields)), tmp_path / "x.parquet")
    assert Parquet(path=str(tmp_path / "x.parquet")).open().read(0) == png()
    objects = np.array([np.frombuffer(data, np.uint8), None], dtype=object)
    np.savez(tmp_path / "mnist.npz", x_train=objects)
    with pytest.raises(DataError, match="allow_pickle"):
        Handwriting(path=str(tmp_path / "mnist.npz")).open()
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for file in ("batches.meta", "test_batch", *(f"data_batch_{n}" for n in range(1, 6))):
        (folder / file).write_bytes(data)
    with pytest.raises(DataError, match="no complete CIFAR-10"):
        Cifar(num_classes=10, root=str(tmp_path)).open()
    assert not mark.exists()
