"""What a training depends on, as plain data, and the optimiser it asks for. Knows no images."""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from curriculum.augment import Augment
from curriculum.evaluate import EvaluateSpec
from curriculum.mixture import Composition
from generators.classifiers import Normalization
from generators.registry import MethodSpec, content_hash

Precision = Literal["float32", "bfloat16", "float16"]
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
WITHOUT_EFFECT = ("device", "num_loader_workers")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSpec:
    """Everything a training depends on, except its images.

    Attributes:
        model: `small_cnn` or any timm model.
        pretrained: whether to start from timm's weights; set `normalization` to match.
        image_size: (height, width) of the network's inputs; images of another size are resized.
        channels: 1 or 3.
        epochs: the units a schedule plans in.
        updates_per_epoch: the same in every arm of a comparison, whatever its data.
        learning_rate: the peak; linear warm-up, then cosine to 0.
        weight_decay: not applied to biases and normalisation layers.
        momentum: of SGD (Nesterov).
        warmup_percent: share of the updates with rising learning rate.
        ema_decay: of a moving average of the weights, which is then the result; None for none.
        mixing: how images of a batch are mixed with one another.
        sampling: how often each class is drawn.
        precision: of the network's forward and backward pass; weights are float32.
        augment: random changes, the same for all classes.
        augmentation: further ones, by class.
        rebalancer: what is done to the last layer at the end.
        seed: of initial weights, order, augmentation, mixing and dropout.
        device: `cpu`, `cuda`, `cuda:1`, `mps`.
        num_loader_workers: reading processes; 0 reads in the training process.
    """

    model: str = "small_cnn"
    pretrained: bool = False
    image_size: tuple[int, int]
    channels: Annotated[int, Field(ge=1)]
    num_classes: Annotated[int, Field(ge=2)]
    normalization: Normalization = field(default_factory=Normalization)
    epochs: Annotated[int, Field(ge=1)] = 20
    updates_per_epoch: Annotated[int, Field(ge=1)] = 20
    batch_size: Annotated[int, Field(ge=2)] = 64
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    warmup_percent: Annotated[int, Field(ge=0, lt=100)] = 5
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    mixing: MethodSpec = field(default_factory=lambda: MethodSpec(name="none"))
    sampling: MethodSpec = field(default_factory=lambda: MethodSpec(name="instance"))
    precision: Precision = "float32"
    augment: Augment = field(default_factory=Augment)
    augmentation: MethodSpec = field(default_factory=lambda: MethodSpec(name="none"))
    loss: MethodSpec = field(default_factory=lambda: MethodSpec(name="cross_entropy"))
    schedule: MethodSpec = field(default_factory=lambda: MethodSpec(name="none"))
    composition: Composition = field(default_factory=Composition)
    rebalancer: MethodSpec = field(default_factory=lambda: MethodSpec(name="none"))
    seed: Annotated[int, Field(ge=0)] = 0
    device: str = "cpu"
    num_loader_workers: Annotated[int, Field(ge=0)] = 0

    def fingerprint(self) -> str:
        """Content hash of all that changes the result."""
        values = {k: v for k, v in asdict(self).items() if k not in WITHOUT_EFFECT}
        if self.composition.added_count is None:  # trainings of before there was one stay valid
            del values["composition"]["added_count"]
        return content_hash(values)

    def looking(self, device: str) -> EvaluateSpec:
        """How images that are not augmented go through the network."""
        return EvaluateSpec(
            normalization=self.normalization, image_size=self.image_size, device=device
        )


def make_optimizer(
    spec: TrainSpec, model: nn.Module
) -> tuple[torch.optim.Optimizer, Any, Any | None]:
    """An optimiser of timm, with its cosine schedule by updates and moving average or None."""
    from timm.optim import create_optimizer_v2  # heavy: seconds, and a spec does without it
    from timm.scheduler import CosineLRScheduler
    from timm.utils import ModelEmaV3

    optimizer: torch.optim.Optimizer = create_optimizer_v2(
        model,
        opt=spec.optimizer,
        lr=spec.learning_rate,
        weight_decay=spec.weight_decay,
        momentum=spec.momentum,
    )
    updates = spec.epochs * spec.updates_per_epoch
    warmup = updates * spec.warmup_percent // 100
    decay = CosineLRScheduler(
        optimizer,
        t_initial=updates,
        warmup_t=warmup,
        warmup_lr_init=spec.learning_rate / (warmup + 1),  # not 0: the first update counts, too
        t_in_epochs=False,
    )
    ema = None if spec.ema_decay is None else ModelEmaV3(model, decay=spec.ema_decay)
    return optimizer, decay, ema
