"""Any timm classifier as judge, through a list that says which output means which class."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import torch
from pydantic import Field
from torch import Tensor

from generators.checkpoint_places import local_checkpoint
from generators.classifiers import Normalization
from generators.errors import CheckpointError, ConfigError, one_of
from generators.filters.base import (
    LOW_CLASS_PROBABILITY,
    Bound,
    ClassifierScorer,
    Judge,
    JudgeContext,
    LoadedJudge,
    as_images,
    first_refusal,
    source_bound,
)

PROBABILITY, SIMILARITY = "timm_probability", "timm_similarity"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimmClassifier:
    """A timm checkpoint of your own or of a hub: probability of the class, likeness to the source.

    Images are resized, cropped and normalised as the checkpoint's own data config says.

    Attributes:
        model: timm model name; a folder of weights names its own.
        weights: a safetensors or PyTorch file (read with weights_only), a folder in timm's hub
            layout, the URL of either, or empty for timm's own weights (cache or hub).
        classes: the class each output means, in the order of the outputs: a list, or a text file
            with one name a line. Names that several outputs share add up; names that the data set
            lacks are allowed.
        channels: of the network's inputs.
        min_probability: least probability of the image's class, 0..1.
        min_similarity: least cosine of the features before the head with the source's, -1..1.
        max_similarity: most of the same; below 1 it refuses near-copies of the source.
    """

    model: str = ""
    weights: str = ""
    classes: tuple[str, ...] | str
    channels: Literal[1, 3] = 3
    min_probability: Annotated[float, Field(ge=0, le=1)] = 0.0
    min_similarity: Annotated[float, Field(ge=-1, le=1)] = -1.0
    max_similarity: Annotated[float, Field(ge=-1, le=1)] = 1.0

    @property
    def columns(self) -> tuple[str, ...]:
        """Probability of its class; cosine with the source."""
        return (PROBABILITY, SIMILARITY)

    def load(self, context: JudgeContext) -> LoadedJudge:
        """Loads network and weights.

        Raises:
            ConfigError: no such model, or a class list that fits neither outputs nor data set.
            CheckpointError: weights that are missing, damaged or of another network.
        """
        names = self._class_list()
        missing = sorted(set(context.class_names) - set(names))
        if missing:
            allowed = f"a list that names every class of the data set; it lacks {missing}"
            raise ConfigError("filter.classes", list(names)[:10], allowed)
        network = self._network(len(names))
        if network.num_classes != len(names):
            allowed = f"{network.num_classes} names, one an output of the network"
            raise ConfigError("filter.classes", f"{len(names)} names", allowed)
        known = {name: index for index, name in enumerate(context.class_names)}
        class_of_output = torch.zeros(len(names), len(known))
        for output, name in enumerate(names):
            if name in known:
                class_of_output[output, known[name]] = 1
        return ClassifierScorer(
            network=network.to(context.device).eval().requires_grad_(False),
            prepare=_Preparation(network, self.channels),
            columns=(PROBABILITY, SIMILARITY),
            class_of_output=class_of_output,
            device=context.device,
        )

    def refuse(self, scores: Mapping[str, float]) -> str:
        """Keeps scores within the thresholds, ends included."""
        bounds = (
            Bound(column=PROBABILITY, lowest=self.min_probability, too_low=LOW_CLASS_PROBABILITY),
            source_bound(SIMILARITY, self.min_similarity, self.max_similarity),
        )
        return first_refusal(bounds, scores)

    def _class_list(self) -> tuple[str, ...]:
        if not isinstance(self.classes, str):
            return self.classes
        path = local_checkpoint(self.classes, "filter.classes")
        if not path.is_file():
            raise ConfigError("filter.classes", self.classes, "a list of names or a text file")
        return tuple(line.strip() for line in path.read_text().splitlines())

    def _network(self, num_classes: int) -> Any:
        import timm  # heavy: seconds

        path = local_checkpoint(self.weights, "filter.weights")
        if self.weights and not path.exists():
            raise CheckpointError(f"filter.weights: no file or folder {self.weights!r}")
        folder = bool(self.weights) and path.is_dir()
        if not folder and not timm.is_model(self.model):
            raise ConfigError("filter.model", self.model, one_of(timm.list_models(), self.model))
        try:
            if folder:
                return timm.create_model(
                    f"local-dir:{path}", pretrained=True, in_chans=self.channels
                )
            if not self.weights:
                return timm.create_model(self.model, pretrained=True, in_chans=self.channels)
            network = timm.create_model(self.model, num_classes=num_classes, in_chans=self.channels)
            timm.models.load_checkpoint(network, str(path), weights_only=True)
            return network
        except Exception as error:  # what timm, torch and safetensors raise here has no common base
            what = self.weights or self.model
            raise CheckpointError(f"filter.weights: cannot load {what!r}: {error}") from error


class _Preparation:
    """A checkpoint's own preparation of evaluation images, as timm makes it, for batches."""

    def __init__(self, network: Any, channels: int) -> None:
        from timm.data import create_transform, resolve_data_config

        config = resolve_data_config(model=network)
        mean, std = tuple(config["mean"]), tuple(config["std"])
        if channels == 1:
            mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
        self._normalization = Normalization(mean=mean, std=std)
        self._transform = create_transform(**config, normalize=False)
        self._channels = channels

    def __call__(self, pixels: Tensor) -> Tensor:
        """(N, C, H, W) uint8 to normalised inputs."""
        return self._normalization.apply(as_images(self._transform(pixels), self._channels))


METHOD: Final[type[Judge]] = TimmClassifier
