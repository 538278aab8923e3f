"""Trained classifiers on disk: weights, what must be known to use them, statistics of real images.

Files are safetensors; their metadata says architecture, class names, image size, normalisation.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from torch import Tensor, nn

from generators.classifiers import Normalization, create_classifier
from generators.errors import CheckpointError, ConfigError
from generators.heads import LINEAR, HeadSpec, with_head
from generators.registry import JsonValue, canonical_json

METADATA_KEY = "discl_classifier"
STATISTICS = "statistics/"
"""Begins the names of tensors that are no weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifierInfo:
    """What must be known of a trained classifier to use it.

    Attributes:
        model: a name that `create_classifier` knows.
        class_names: one a logit.
        channels: 1 or 3.
        image_size: (height, width) in pixels.
        normalization: of its inputs.
        head: its last layers.
        details: anything else worth keeping (seed, accuracy, what it was trained on); plain JSON.
    """

    model: str
    class_names: tuple[str, ...]
    channels: int
    image_size: tuple[int, int]
    normalization: Normalization = field(default_factory=Normalization)
    head: HeadSpec = LINEAR
    details: Mapping[str, JsonValue] = field(default_factory=dict)

    def as_json(self) -> dict[str, JsonValue]:
        """Plain data, as it stands in the file."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, JsonValue]) -> "ClassifierInfo":
        """The inverse of `as_json`; KeyError, TypeError or ValueError when it is not one."""
        height, width = data["image_size"]
        scaling = data["normalization"]
        return cls(
            model=data["model"],
            class_names=tuple(data["class_names"]),
            channels=data["channels"],
            image_size=(height, width),
            normalization=Normalization(mean=tuple(scaling["mean"]), std=tuple(scaling["std"])),
            head=HeadSpec.from_json(data["head"]),
            details=dict(data["details"]),
        )


def save_classifier(
    path: Path,
    model: nn.Module,
    info: ClassifierInfo,
    statistics: Mapping[str, Tensor] | None = None,
) -> None:
    """Writes a classifier to one safetensors file, under its name only when complete.

    Args:
        path: of the file.
        model: the network.
        info: what must be known to use it.
        statistics: of real images under it, see `statistics_of`.
    """
    from safetensors.torch import save

    beside = {f"{STATISTICS}{name}": tensor for name, tensor in (statistics or {}).items()}
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in {**model.state_dict(), **beside}.items()
    }
    # One key only: safetensors writes several in random order, and equal files have equal hashes.
    data = save(tensors, metadata={METADATA_KEY: canonical_json(info.as_json())})
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)


def load_classifier(path: Path) -> tuple[nn.Module, ClassifierInfo]:
    """Reads what `save_classifier` wrote; the network is on the CPU and in evaluation mode.

    Raises:
        CheckpointError: missing, damaged, without our metadata, or weights of another network.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"no classifier file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            named = [name for name in file.keys() if not name.startswith(STATISTICS)]  # noqa: SIM118
            tensors = {name: file.get_tensor(name) for name in named}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
    if METADATA_KEY not in metadata:
        raise CheckpointError(f"{path}: no '{METADATA_KEY}' metadata; save it with save_classifier")
    try:
        info = ClassifierInfo.from_json(json.loads(metadata[METADATA_KEY]))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged '{METADATA_KEY}' metadata: {error!r}") from error
    try:
        model = create_classifier(
            info.model, len(info.class_names), info.channels, image_size=info.image_size
        )
        model = with_head(model, info.head)
        model.load_state_dict(tensors)
    except (ConfigError, RuntimeError) as error:
        raise CheckpointError(f"{path}: weights do not fit {info.model!r}: {error}") from error
    return model.eval(), info


def load_statistics(path: Path) -> dict[str, Tensor]:
    """The statistics of real images that were stored with a classifier.

    Raises:
        CheckpointError: there are none.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(STATISTICS)]  # noqa: SIM118
            found = {name.removeprefix(STATISTICS): file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {error}") from error
    if not found:
        raise CheckpointError(f"{path} holds no statistics of real images; train it again")
    return found
