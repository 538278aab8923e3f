"""Finds and verifies weight files without reading the weights. Nothing here unpickles.

A safetensors file begins with the length of its header (8 bytes, little endian) and the header:
JSON with the place of every tensor. So a few kilobytes tell how long the whole file must be.
"""

import json
import re
from pathlib import Path

from generators.errors import CheckpointError
from generators.registry import JsonValue

STEMS = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}
"""Library of a component to how its weight files begin."""

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
LFS_POINTER = b"version https://git-lfs"
MAX_HEADER = 100_000_000  # bytes; safetensors' own limit


def weight_files(folder: Path, library: str, variant: str | None) -> tuple[Path, ...]:
    """A component's safetensors, and the index where there are several; all verified.

    Args:
        folder: of the component.
        library: it belongs to, a key of `STEMS`.
        variant: e.g. `fp16`; None for files without one.

    Raises:
        CheckpointError: a file that is missing, truncated or not safetensors.
    """
    stem, infix = STEMS[library], f".{variant}" if variant else ""
    single = folder / f"{stem}{infix}.safetensors"
    index = folder / f"{stem}.safetensors.index{infix}.json"
    if single.is_file():
        check_safetensors(single)
        return (single,)
    if not index.is_file():
        raise CheckpointError(_why_missing(folder, single.name))
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise CheckpointError(f"{index}: has no weight_map; download the file again")
    shards = tuple(folder / str(name) for name in sorted(set(names.values())))
    for shard in shards:
        if not shard.is_file():
            raise CheckpointError(
                f"{shard}: missing, though {index.name} names it{_resume(folder)}"
            )
        check_safetensors(shard)
    return (index, *shards)


def has_variant(folder: Path, library: str, variant: str) -> bool:
    """Whether a component has weights of this variant."""
    stem = STEMS[library]
    names = (f"{stem}.{variant}.safetensors", f"{stem}.safetensors.index.{variant}.json")
    return any((folder / name).is_file() for name in names)


def variants(folder: Path) -> set[str]:
    """The variants a component's folder has."""
    single = re.compile(r"(?:diffusion_pytorch_)?model\.([^.-]+)\.safetensors")
    index = re.compile(r"(?:diffusion_pytorch_)?model\.safetensors\.index\.([^.]+)\.json")
    found = (single.fullmatch(p.name) or index.fullmatch(p.name) for p in folder.iterdir())
    return {match.group(1) for match in found if match}


def check_safetensors(path: Path) -> None:
    """Raises CheckpointError if the file is shorter or longer than its header says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start.startswith(LFS_POINTER[:8]):
            raise CheckpointError(f"{path}: a Git LFS pointer, not the weights; run `git lfs pull`")
        length = int.from_bytes(start, "little")
        if len(start) == 8 and length > MAX_HEADER:
            raise CheckpointError(f"{path}: not a safetensors file; download it again")
        header = file.read(length)
    wanted = 8 + length
    if len(start) == 8 and len(header) == length:
        try:
            entries = json.loads(header)
            ends = [item["data_offsets"][1] for key, item in entries.items() if key[:2] != "__"]
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            raise CheckpointError(f"{path}: not a safetensors file; download it again") from error
        wanted += max(ends, default=0)
    if size != wanted:
        raise CheckpointError(
            f"{path}: {size} bytes, but its header says {wanted} or more: truncated, or not yet "
            f"downloaded; download it again{_resume(path.parent)}"
        )


def read_json(path: Path) -> dict[str, JsonValue]:
    """A JSON object; CheckpointError where the file is missing or holds something else."""
    if not path.is_file():
        raise CheckpointError(f"{path}: missing{_resume(path.parent)}")
    try:
        text = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
    return parse_json(text, str(path))


def parse_json(text: bytes, name: str) -> dict[str, JsonValue]:
    """A JSON object from the bytes of the file of that name; CheckpointError for anything else."""
    if text.startswith(LFS_POINTER):
        raise CheckpointError(f"{name}: a Git LFS pointer, not the file; run `git lfs pull`")
    try:
        data = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{name}: not JSON ({error}); save or download it again") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{name}: not a JSON object; save or download it again")
    return data


def _why_missing(folder: Path, wanted: str) -> str:
    """What is wrong with a folder without the wanted weights, and what to do."""
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    known = sorted(variants(folder))
    if known:
        return f"{folder / wanted}: missing; the folder has the variants {known}: set `variant`"
    if pickles:
        return (
            f"{folder}: only pickled weights ({pickles[0]}), which are never loaded; save the "
            "checkpoint as safetensors (save_pretrained(..., safe_serialization=True))"
        )
    return f"{folder / wanted}: missing, and no index of several files{_resume(folder)}"


def _resume(folder: Path) -> str:
    """A hint where a download was left unfinished, in the component or the whole checkpoint."""
    root = folder.parent
    places = (folder, root, root / ".cache", root.parent.parent / "blobs")
    partial = next((p for place in places for p in _incomplete(place)), None)
    return f"; {partial} is an unfinished download: finish it" if partial else ""


def _incomplete(folder: Path) -> list[Path]:
    pattern = "**/*.incomplete" if folder.name == ".cache" else "*.incomplete"
    return sorted(folder.glob(pattern)) if folder.is_dir() else []
