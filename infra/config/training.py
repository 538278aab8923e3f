"""The config of the training: how every classifier is trained, and what one arm is fed."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from curriculum.augment import Augment
from generators.registry import JsonValue, MethodSpec
from infra.config.method_field import (
    AugmentationMethod,
    LossMethod,
    MixingMethod,
    RebalancerMethod,
    SamplingMethod,
    ScheduleMethod,
)
from infra.config.section import NAME, Positive, Section, checked_fields, collected


class ArmConfig(Section):
    """One way of feeding the classifier; all arms share model, updates and augmentation."""

    schedule: ScheduleMethod = Field(description="which levels are seen when")
    tail_share: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="share of hard-class images in an epoch; none: as they come"
    )
    head_keep: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="share of the other classes' real images kept, drawn anew each epoch"
    )
    synthetic_weight: Annotated[float, Field(ge=0)] = Field(
        1.0, description="of a synthetic image's loss; a real one's is 1"
    )
    added_count: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        exclude_if=lambda count: count is None,  # it came later: outputs of before stay as they are
        description="real images that a synthetic or repeated one counts as in the loss's class "
        "prior; none: as its weight",
    )
    loss: LossMethod | None = Field(None, description="instead of training.loss")
    sampling: SamplingMethod | None = Field(None, description="instead of training.sampling")
    mixing: MixingMethod | None = Field(None, description="instead of training.mixing")
    augmentation: AugmentationMethod | None = Field(
        None, description="instead of training.augmentation"
    )
    rebalancer: RebalancerMethod | None = Field(None, description="instead of training.rebalancer")


class TrainingConfig(Section):
    """How every classifier is trained."""

    model: str = Field("resnet18", description="a timm model, or small_cnn for tiny images")
    pretrained: bool = Field(False, description="start from timm's weights (its cache or hub)")
    image_size: Positive | None = Field(None, description="input side; default data.image_size")
    epochs: Positive = Field(30, description="parts of the training; schedules move between them")
    updates_per_epoch: Positive = Field(100, description="optimiser steps in each")
    batch_size: Annotated[int, Field(ge=2)] = Field(128, description="images in one step")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="optimiser")
    learning_rate: Annotated[float, Field(gt=0)] = Field(1e-3, description="peak")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.05, description="weight decay")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="of SGD (Nesterov)")
    warmup_percent: Annotated[int, Field(ge=0, lt=100)] = Field(5, description="linear warm-up")
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="moving average of the weights; it is what is evaluated"
    )
    mixing: MixingMethod = Field(MethodSpec(name="none"), description="of images in a batch")
    sampling: SamplingMethod = Field(
        MethodSpec(name="instance"), description="how often each class is drawn"
    )
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="autocast type, where the device has it"
    )
    loss: LossMethod = Field(MethodSpec(name="cross_entropy"), description="loss")
    augment: dict[str, JsonValue] = Field({}, description="augmentation, all off by default")
    augmentation: AugmentationMethod = Field(
        MethodSpec(name="none"), description="further augmentation, by class"
    )
    rebalancer: RebalancerMethod = Field(
        MethodSpec(name="none"), description="what is done to the last layer at the end"
    )
    seeds: Positive = Field(3, description="trainings of every arm; intervals need at least 2")
    loader_workers: Annotated[int, Field(ge=0)] = Field(0, description="loader processes")

    @field_validator("augment")
    @classmethod
    def _augment(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        with collected("augment"):
            return checked_fields(Augment, value, "augment")


class TreatmentConfig(Section):
    """A way of balancing that every arm of a study is trained with; none keeps the arm's own."""

    loss: LossMethod | None = Field(None, description="instead of the arm's")
    sampling: SamplingMethod | None = Field(None, description="instead of the arm's")
    mixing: MixingMethod | None = Field(None, description="instead of the arm's")
    augmentation: AugmentationMethod | None = Field(None, description="instead of the arm's")
    rebalancer: RebalancerMethod | None = Field(None, description="instead of the arm's")

    def applied_to(self, arm: ArmConfig) -> ArmConfig:
        """The arm, treated."""
        return arm.model_copy(update={name: value for name, value in self if value is not None})


class StudyConfig(Section):
    """Every arm of the run with every treatment: a grid."""

    treatments: dict[Annotated[str, Field(pattern=NAME)], TreatmentConfig] = Field(
        {
            "balanced_softmax": TreatmentConfig(loss=MethodSpec(name="balanced_softmax")),
            "ldam_drw": TreatmentConfig(loss=MethodSpec(name="ldam")),
            "logit_adjustment": TreatmentConfig(rebalancer=MethodSpec(name="logit_adjustment")),
        },
        description="beside training the arms as they are",
    )
