"""The schema of a run. Every field has a description: it is also Prefect's parameter form."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from generators.errors import ConfigError
from generators.fit_spec import FitSpec
from generators.registry import JsonValue, MethodSpec, build, content_hash, method, names
from infra.config.generation import GenerationConfig, parse_levels
from infra.config.method_field import (
    HardSetMethod,
    JudgeMethod,
    Profile,
    Source,
)
from infra.config.section import NAME, Positive, Section, Seed, checked_fields, collected
from infra.config.training import ArmConfig, StudyConfig, TrainingConfig, TreatmentConfig
from infra.config.workers import WorkersConfig

BASELINE = "baseline"
CURRICULUM = "curriculum"


class LongTailConfig(Section):
    """Makes a balanced training set long-tailed, for benchmarks."""

    profile: Profile = Field(description="how many images each class keeps")
    max_count: Positive = Field(description="images of the largest class")


class DataConfig(Section):
    """Where the real images come from and how they are split."""

    source: Source = Field(description="where the images are")
    channels: Literal[1, 3] = Field(3, description="1 grayscale, 3 colour")
    image_size: Positive = Field(description="side of the stored images, pixels")
    long_tail: LongTailConfig | None = Field(None, description="subsample the training set")
    val_percent: Annotated[int, Field(ge=0, lt=100)] = Field(
        0, description="validation share where the source has no official split"
    )
    test_percent: Annotated[int, Field(gt=0, lt=100)] = Field(
        20, description="test share where the source has no official split"
    )
    many_above: Positive = Field(100, description="'many' classes have more training images")
    few_below: Positive = Field(20, description="'few' classes have fewer training images")
    seed: Seed = Field(0, description="of splits and subsampling")

    @model_validator(mode="after")
    def _check(self) -> "DataConfig":
        with collected("data"):
            if self.val_percent + self.test_percent >= 100:
                allowed = f"less than {100 - self.test_percent}, as test_percent takes the rest"
                raise ConfigError("data.val_percent", self.val_percent, allowed)
            if self.few_below > self.many_above:
                allowed = f"at most many_above, {self.many_above}"
                raise ConfigError("data.few_below", self.few_below, allowed)
        return self


class FilterConfig(Section):
    """Which judges must accept an image."""

    judges: tuple[JudgeMethod, ...] = Field((), description="all of them must accept")


class ShardsConfig(Section):
    """How images are stored."""

    images_per_shard: Positive = Field(1000, description="images in one tar")
    image_format: Literal["auto", "png", "jpeg"] = Field(
        "auto", description="auto: PNG below 64 pixels, JPEG above"
    )
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = Field(95, description="JPEG quality")

    def extension(self, image_size: int) -> Literal["png", "jpg"]:
        """File extension of images of this side."""
        if self.image_format == "auto":
            return "png" if image_size < 64 else "jpg"
        return "png" if self.image_format == "png" else "jpg"


class RunConfig(Section):
    """Everything a run depends on."""

    name: str = Field("run", description="shown in reports", pattern=NAME)
    data: DataConfig
    hard_set: HardSetMethod = Field(MethodSpec(name="few_shot"), description="images to multiply")
    generation: GenerationConfig = GenerationConfig()
    filter: FilterConfig = FilterConfig()
    shards: ShardsConfig = ShardsConfig()
    training: TrainingConfig = TrainingConfig()
    curriculum: ArmConfig = Field(description="the arm compared with the baseline")
    compare: dict[Annotated[str, Field(pattern=NAME)], ArmConfig] = Field(
        {}, description="further arms by name"
    )
    study: StudyConfig | None = Field(None, description="train every arm in several ways")
    workers: WorkersConfig = WorkersConfig()

    @model_validator(mode="before")
    @classmethod
    def _levels_into_schedules(cls, value: Any) -> Any:
        """A schedule that takes levels and names none gets those that are generated."""
        if not isinstance(value, Mapping) or not isinstance(value.get("generation"), Mapping):
            return value
        try:
            levels = list(parse_levels(value["generation"].get("levels")))
        except ConfigError:  # the field itself says so
            return value
        if not levels:
            return value
        changed = dict(value)
        if "curriculum" in value:
            changed["curriculum"] = _with_levels(value["curriculum"], levels)
        if isinstance(value.get("compare"), Mapping):
            arms = value["compare"].items()
            changed["compare"] = {name: _with_levels(arm, levels) for name, arm in arms}
        return changed

    @model_validator(mode="after")
    def _check_arms(self) -> "RunConfig":
        known = {*self.generation.levels, 100}
        with collected(""):
            for name in self.compare:
                if name in (BASELINE, CURRICULUM):
                    allowed = "a name other than the two that every run has"
                    raise ConfigError(f"compare.{name}", name, allowed)
            for name, arm in self.plain_arms().items():
                field = name if name == CURRICULUM else f"compare.{name}"
                if arm.schedule.name == "repeat" and arm.tail_share is None:
                    allowed = "a share in (0, 1), which `repeat` fills with hard real images"
                    raise ConfigError(f"{field}.tail_share", None, allowed)
                unknown = sorted(set(build("schedule", arm.schedule).levels) - known)
                if unknown and not self.generation.levels:
                    allowed = "one of real images alone, as there are no generation.levels"
                    raise ConfigError(f"{field}.schedule", arm.schedule.name, allowed)
                if unknown:
                    allowed = f"levels of generation.levels {list(self.generation.levels)}"
                    raise ConfigError(f"{field}.schedule.levels", unknown[0], allowed)
        return self

    @model_validator(mode="after")
    def _check_team(self) -> "RunConfig":
        processes, batch = self.workers.processes_per_training, self.training.batch_size
        with collected(""):
            if batch % processes:
                allowed = f"a number that divides training.batch_size, {batch}"
                raise ConfigError("workers.processes_per_training", processes, allowed)
        return self

    def arms(self) -> dict[str, ArmConfig]:
        """All arms: the baseline (real data only), the curriculum, and what it is compared to."""
        return {
            treated(name, treatment): arm if how is None else how.applied_to(arm)
            for treatment, how in self.treatments().items()
            for name, arm in self.plain_arms().items()
        }

    def plain_arms(self) -> dict[str, ArmConfig]:
        """The arms without a study's treatments."""
        baseline = ArmConfig(schedule=MethodSpec(name="none"))
        return {BASELINE: baseline, CURRICULUM: self.curriculum, **self.compare}

    def treatments(self) -> dict[str, TreatmentConfig | None]:
        """None as it is, by the empty name, then those of the study."""
        return {"": None, **(self.study.treatments if self.study else {})}

    def identity(self) -> dict[str, JsonValue]:
        """Plain data of everything results depend on."""
        data: dict[str, JsonValue] = self.model_dump(mode="json", exclude={"workers"})
        return data

    def fingerprint(self) -> str:
        """Content hash of `identity`."""
        return content_hash(self.identity())


def treated(arm: str, treatment: str) -> str:
    """Name of an arm with a treatment."""
    return f"{arm}-{treatment}" if treatment else arm


def studied(config: RunConfig) -> RunConfig:
    """The config, with the usual treatments where it names none."""
    return config if config.study else config.model_copy(update={"study": StudyConfig()})


class FitConfig(Section):
    """A generator to train and publish as a folder (`discl fit`)."""

    name: str = Field("generator", description="name of the folder", pattern=NAME)
    data: DataConfig
    shards: ShardsConfig = ShardsConfig()
    fit: dict[str, JsonValue] = Field({}, description="architecture and training")
    workers: WorkersConfig = WorkersConfig()
    knowledge: str = Field("", description="what it knows, for the reports of runs that use it")
    transfer: Source | None = Field(
        None, description="a data set on which a classifier trained on this data alone is tested"
    )
    training: TrainingConfig = TrainingConfig()

    @field_validator("fit")
    @classmethod
    def _fit(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        with collected("fit"):
            return checked_fields(FitSpec, value, "fit")


def _with_levels(arm: Any, levels: list[int]) -> Any:
    """An arm whose schedule has levels; unchanged where it needs none or is not a schedule."""
    if not isinstance(arm, Mapping) or "schedule" not in arm:
        return arm
    schedule = arm["schedule"]
    schedule = {"name": schedule} if isinstance(schedule, str) else schedule
    if not isinstance(schedule, Mapping) or "levels" in schedule:
        return arm
    if schedule.get("name") not in names("schedule"):
        return arm
    cls = method("schedule", schedule["name"])
    if "levels" not in {field.name for field in dataclasses.fields(cls)}:
        return arm
    return {**arm, "schedule": {**schedule, "levels": levels}}
