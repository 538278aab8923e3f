"""Where the files of a pixel-space UNet are, and what its classes are called. Loads no network.

Three layouts are read: ours (`Fit.save`, with a card), what a diffusers pipeline's
`save_pretrained` writes (`model_index.json`, `unet/`, `scheduler/`), and both in one folder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from generators.errors import CheckpointError, ConfigError
from generators.latent.weights import read_json

CARD: Final = "card.json"
CONFIG: Final = "config.json"
SCHEDULER: Final = "scheduler_config.json"
WEIGHTS: Final = "diffusion_pytorch_model.safetensors"
PARTS: Final = frozenset({"unet", "scheduler"})


@dataclass(frozen=True, slots=True, kw_only=True)
class UnetFiles:
    """The files of one network; all but the card exist.

    Attributes:
        config: of the network, `config.json`.
        weights: safetensors.
        scheduler: `scheduler_config.json`.
        card: `card.json`, where there is one.
    """

    config: Path
    weights: Path
    scheduler: Path
    card: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """What a network can be conditioned on.

    Attributes:
        names: by index; None for an unconditional network.
        null: index of the null class of classifier-free guidance; None if it was not trained.
    """

    names: tuple[str, ...] | None
    null: int | None


def find_files(folder: Path) -> UnetFiles:
    """Finds the files of a UNet, whatever the layout.

    Raises:
        CheckpointError: a file is missing, or the folder holds a model of another kind.
    """
    _check_pipeline(folder)
    network = folder / "unet" if (folder / "unet").is_dir() else folder
    own = folder / "scheduler" / SCHEDULER
    files = UnetFiles(
        config=network / CONFIG,
        weights=network / WEIGHTS,
        scheduler=own if own.is_file() else folder / SCHEDULER,
        card=folder / CARD if (folder / CARD).is_file() else None,
    )
    expected = (files.config, files.weights, files.scheduler)
    missing = [path for path in expected if not path.is_file()]
    if missing:
        named = ", ".join(str(path.relative_to(folder)) for path in missing)
        pickled = files.weights.with_suffix(".bin")
        why = f"; {pickled.name} is a pickle and is not read, save it again as safetensors"
        raise CheckpointError(
            f"{folder}: {named} missing (expected {CONFIG} and {WEIGHTS}, here or in unet/, and "
            f"{SCHEDULER}, here or in scheduler/){why if pickled.is_file() else ''}"
        )
    found = read_json(files.config).get("_class_name", "UNet2DModel")
    if found != "UNet2DModel":
        raise CheckpointError(f"{files.config}: _class_name {found!r}; expected 'UNet2DModel'")
    return files


def _check_pipeline(folder: Path) -> None:
    """Refuses pipelines of more, or other, parts than a UNet and its scheduler."""
    index = folder / "model_index.json"
    if not index.is_file():
        return
    listed = read_json(index)
    parts = {
        name: entry for name, entry in listed.items() if isinstance(entry, list) and all(entry)
    }
    others = sorted(parts.keys() - PARTS)
    if others or "unet" not in parts:
        raise CheckpointError(
            f"{index}: {listed.get('_class_name')} has {', '.join(sorted(parts)) or 'no part'}; "
            "expected a UNet2DModel with its scheduler and nothing else (latent diffusion models "
            "have backbones of their own)"
        )


def read_patch_size(files: UnetFiles) -> int:
    """Side of the squares of pixels that the network sees as one pixel of more channels.

    Raises:
        CheckpointError: the card has something else there.
    """
    size = (read_json(files.card) if files.card else {}).get("patch_size", 1)
    if type(size) is not int or size < 1:
        raise CheckpointError(f"{files.card}: patch_size {size!r}; expected an integer >= 1")
    return size


def read_classes(
    files: UnetFiles, config: Mapping[str, Any], given: Sequence[str] | None
) -> Classes:
    """The classes of a network, from the names that are given or else from its card.

    A table of embeddings with one row more than there are names ends with the null class. A
    network that embeds class numbers as it does timesteps has no table, hence no null class.

    Raises:
        ConfigError: the names that are given do not fit the network.
        CheckpointError: the card's do not, or there are none, or classes are no numbers.
    """
    kind, count = config.get("class_embed_type"), config.get("num_class_embeds")
    if kind not in (None, "timestep"):
        raise CheckpointError(
            f"{files.config}: class_embed_type {kind!r} is not supported: it takes no class "
            "numbers; expected null or 'timestep'"
        )
    if kind is None and count is None:
        if given is not None:
            allowed = "nothing: this network is unconditional"
            raise ConfigError("class_names", list(given), allowed)
        return Classes(names=None, null=None)
    if given is None and files.card is None:
        raise CheckpointError(
            f"{files.config.parent}: {CARD} with its class_names missing; the network is "
            "class-conditional, so give class_names"
        )
    names = tuple(given) if given is not None else _card_names(files)
    if kind == "timestep" and names:
        return Classes(names=names, null=None)
    if kind is None and names and len(names) in (count, (count or 0) - 1):
        return Classes(names=names, null=len(names) if len(names) < (count or 0) else None)
    has = f"{count} class embeddings" if kind is None else "a class embedding"
    fit = f"{(count or 0) - 1} (the last one is the null class) or {count}" if count else "some"
    if given is not None:
        raise ConfigError("class_names", list(given), f"{fit} names: the network has {has}")
    raise CheckpointError(
        f"{files.card}: {len(names)} class_names, but the network has {has}; expected {fit}"
    )


def _card_names(files: UnetFiles) -> tuple[str, ...]:
    card = read_json(files.card) if files.card else {}
    return tuple(str(name) for name in card.get("class_names", []))
