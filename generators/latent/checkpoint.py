"""Diffusers-format checkpoints: found, and verified before any weights are read.

A checkpoint is a folder that `save_pretrained` wrote, or a hub name. Knows no family; nothing is
imported from diffusers until something is downloaded.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from generators.checkpoint_places import local_checkpoint, remote_file
from generators.errors import CheckpointError
from generators.latent.content import config_hash, decisive, file_hash
from generators.latent.family import Family
from generators.latent.weights import (
    STEMS,
    has_variant,
    parse_json,
    read_json,
    variants,
    weight_files,
)
from generators.registry import JsonValue, content_hash

AT = "generation.backbone.path"
INDEX = "model_index.json"
SCHEDULER_FILE = "scheduler_config.json"
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("spiece.model",))
"""Files of which a tokenizer needs one group: fast, CLIP's, T5's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A verified part of a checkpoint.

    Attributes:
        name: in model_index.json, e.g. `unet`.
        library: `diffusers` or `transformers`.
        class_name: its class there.
        folder: where its files are.
        variant: of its weights; None where they have none.
        configs: JSON files that decide pixels, hashed by what they say.
        files: other files that decide pixels, hashed byte by byte.
    """

    name: str
    library: str
    class_name: str
    folder: Path
    variant: str | None = None
    configs: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()

    def config(self) -> dict[str, JsonValue]:
        """Its first config as it stands in the file; empty for one without."""
        return read_json(self.configs[0]) if self.configs else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A complete folder of a family.

    Attributes:
        family: what was looked for.
        folder: with model_index.json.
        index: what stands in there.
        components: by name; those that are loaded.
    """

    family: Family
    folder: Path
    index: Mapping[str, JsonValue]
    components: Mapping[str, Component]

    def config(self, name: str) -> dict[str, JsonValue]:
        """The config of a component; empty where the checkpoint does not have it."""
        return self.components[name].config() if name in self.components else {}

    def card(self, path: str) -> dict[str, object]:
        """What reports say of a pretrained network; `path` is how the user names it."""
        kind = self.index.get("_class_name")
        return {
            "knowledge": f"It is the pretrained {kind} {path!r}, with all it learned elsewhere."
        }

    def fingerprint(self, settings: Mapping[str, JsonValue], adapters: Iterable[Path] = ()) -> str:
        """32 hex digits over all that decides pixels. Reads every file, once per process.

        Args:
            settings: of the backbone that decide pixels: data type, image size, ...
            adapters: further weight files, in the order they are applied.
        """
        contents = {
            name: {
                "class": f"{part.library}.{part.class_name}",
                "configs": {path.name: config_hash(path) for path in part.configs},
                "files": {path.name: file_hash(path) for path in part.files},
            }
            for name, part in self.components.items()
        }
        index = {key: item for key, item in decisive(self.index).items() if not _is_component(item)}
        return content_hash(
            {
                "pipeline": self.family.pipeline,
                "index": {key: item for key, item in index.items() if key != "_class_name"},
                "components": contents,
                "settings": dict(settings),
                "adapters": [file_hash(path) for path in adapters],
            }
        )


def find_checkpoint(family: Family, path: str, variant: str | None = None) -> Checkpoint:
    """A complete checkpoint; downloads one that is named as on the hub and not here yet.

    Args:
        family: what it must be.
        path: a folder (which wins), a hub name `org/name`, or the URL of a folder in an object
            store, which is copied whole.
        variant: of the weights, e.g. `fp16`; components that have none use their plain weights.

    Raises:
        CheckpointError: no such folder or hub model, another family, or a file that is missing,
            truncated or a pickle.
        StoreError: an object store does not answer.
    """
    folder = _local_folder(path)
    if folder is None:
        folder = _download(path, variant)
    return _verified(family, folder, variant)


def check_checkpoint(family: Family, path: str, variant: str | None = None) -> Checkpoint | None:
    """As `find_checkpoint`, but copies nothing: None for what workers must download first.

    Of a checkpoint in an object store only model_index.json is read.

    Raises:
        CheckpointError: as `find_checkpoint`; also for a hub name while the hub is switched off
            (HF_HUB_OFFLINE) and the model is not in its cache.
    """
    index = remote_file(path, INDEX, AT)
    if index is not None:
        name = f"{path}/{INDEX}"
        family.require(parse_json(index, name).get("_class_name"), name)
        return None
    folder = _local_folder(path)
    if folder is not None:
        return _verified(family, folder, variant)
    from huggingface_hub import constants, try_to_load_from_cache

    cached = try_to_load_from_cache(path, INDEX)
    if isinstance(cached, str):
        family.require(read_json(Path(cached)).get("_class_name"), cached)
    elif constants.HF_HUB_OFFLINE:
        raise CheckpointError(_not_found(path, "the hub is switched off by HF_HUB_OFFLINE"))
    return None


def _local_folder(path: str) -> Path | None:
    """The folder; None for what can only be a hub name."""
    folder = local_checkpoint(path, AT)
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise CheckpointError(
            f"path: {path!r} is a file; convert it to a diffusers folder (from_single_file, then "
            "save_pretrained)"
        )
    if not HUB_NAME.fullmatch(path):
        raise CheckpointError(f"path: no folder {path!r}, and not a hub name such as 'org/name'")
    return None


def _download(name: str, variant: str | None) -> Path:
    """The hub's snapshot, safetensors only."""
    from diffusers import DiffusionPipeline
    from httpx import HTTPError
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(DiffusionPipeline.download(name, variant=variant, use_safetensors=True))
    except (OSError, ValueError, HfHubHTTPError, HTTPError) as error:
        raise CheckpointError(_not_found(name, str(error).strip().partition("\n")[0])) from error


def _not_found(name: str, why: str) -> str:
    return f"path: no folder {name!r} here, and it cannot be had from the hub: {why}"


def _verified(family: Family, folder: Path, variant: str | None) -> Checkpoint:
    if not (folder / INDEX).is_file():
        raise CheckpointError(f"{folder / INDEX}: missing; {_what_else(folder)}")
    index = read_json(folder / INDEX)
    family.require(index.get("_class_name"), str(folder / INDEX))
    found = {}
    for name in (*family.components, *family.optional):
        item: JsonValue = index.get(name)
        if _is_component(item) and item[0] is not None:
            found[name] = _component(folder / name, item[0], item[1])
        elif name in family.components:
            raise CheckpointError(
                f"{folder / INDEX}: names no {name!r}, which {family.method} needs"
            )
    wanted = _with_variant(found.values(), variant, folder)
    return Checkpoint(
        family=family,
        folder=folder,
        index=index,
        components={name: _complete(part, wanted) for name, part in found.items()},
    )


def _is_component(item: JsonValue) -> bool:
    return (
        isinstance(item, list) and len(item) == 2 and all(isinstance(x, str | None) for x in item)
    )


def _component(folder: Path, library: str, class_name: str) -> Component:
    """Only its place: a folder with a class of a known library."""
    if library not in STEMS:
        raise CheckpointError(
            f"{folder.parent / INDEX}: {folder.name!r} is {library}.{class_name}; only classes of "
            f"{' and '.join(STEMS)} are loaded, no code of a checkpoint is run"
        )
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: folder is missing, though {INDEX} names it; download it")
    return Component(name=folder.name, library=library, class_name=class_name, folder=folder)


def _complete(part: Component, variant: str | None) -> Component:
    """Verifies its files and notes those that decide pixels."""
    configs: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()
    used = None
    if part.name == "scheduler":
        configs = (part.folder / SCHEDULER_FILE,)
    elif part.name.startswith("tokenizer"):
        files = _tokenizer_files(part.folder)
    else:
        configs = (part.folder / "config.json",)
        read_json(configs[0])
        used = variant if variant and has_variant(part.folder, part.library, variant) else None
        files = weight_files(part.folder, part.library, used)
    for path in configs:
        read_json(path)
    return Component(
        name=part.name,
        library=part.library,
        class_name=part.class_name,
        folder=part.folder,
        variant=used,
        configs=configs,
        files=files,
    )


def _tokenizer_files(folder: Path) -> tuple[Path, ...]:
    files = tuple(sorted(p for p in folder.iterdir() if p.is_file() and p.name[0] != "."))
    names = {path.name for path in files}
    if not any(names.issuperset(group) for group in TOKENIZERS):
        groups = " or ".join(" and ".join(group) for group in TOKENIZERS)
        raise CheckpointError(f"{folder}: a tokenizer needs {groups}; found {sorted(names)}")
    return files


def _with_variant(parts: Iterable[Component], variant: str | None, folder: Path) -> str | None:
    """The variant, if any component has it."""
    if variant is None:
        return None
    models = [p for p in parts if p.name != "scheduler" and not p.name.startswith("tokenizer")]
    if any(has_variant(p.folder, p.library, variant) for p in models):
        return variant
    known = sorted({name for p in models for name in variants(p.folder)})
    raise CheckpointError(
        f"{folder}: no weights of the variant {variant!r}; its variants: {known or 'none'}"
    )


def _what_else(folder: Path) -> str:
    """What a folder without model_index.json seems to be."""
    if (folder / "config.json").is_file():
        return "this is one component, not a pipeline; give the folder above it"
    names = sorted(os.listdir(folder))[:5]
    return f"give a folder that a diffusers pipeline's save_pretrained wrote; it has {names}"
