"""The config of the generation: by which network, at which levels, how many images."""

from itertools import product
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from generators.errors import ConfigError
from generators.fit_spec import FitSpec
from generators.guidance.base import Guidance
from generators.records import ImageInputs, check_image_guidance
from generators.registry import JsonValue, MethodSpec, build
from infra.config.method_field import BackboneMethod, GuidanceMethod, SamplerMethod
from infra.config.section import Positive, Section, Seed, checked_fields, collected


class TargetConfig(Section):
    """How many synthetic images a hard class gets at each level; exactly one field is set."""

    match_many: bool = Field(False, description="fill up to the mean of the 'many' classes")
    per_class: Annotated[int, Field(ge=1, le=10**9)] | None = Field(
        None, description="this many for every hard class"
    )
    factor: Annotated[float, Field(gt=0, le=10**6)] | None = Field(
        None, description="this many for each real image"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            with collected("target"):
                if value != "match_many":
                    allowed = "match_many, {per_class: N} or {factor: k}"
                    raise ConfigError("target", value, allowed)
            return {"match_many": True}
        return value

    @model_validator(mode="after")
    def _one(self) -> "TargetConfig":
        given = self.model_dump(exclude_defaults=True)
        with collected("target"):
            if len(given) != 1:
                allowed = "exactly one of match_many, per_class: N, factor: k"
                raise ConfigError("target", given, allowed)
        return self


class GenerationConfig(Section):
    """What is generated, by which network, and how; as it is by default, nothing is."""

    backbone: BackboneMethod | None = Field(None, description="a pretrained generator")
    fit: dict[str, JsonValue] | None = Field(
        None, description="instead of a backbone: train one on the run's own real images"
    )
    levels: tuple[int, ...] = Field(
        (), description="image guidance levels in percent, 0..100; none: real images alone"
    )
    target: TargetConfig = Field(
        TargetConfig(match_many=True), description="images a hard class gets at each level"
    )
    num_inference_steps: Positive = Field(50, description="steps of the full schedule")
    guidance: GuidanceMethod = Field(MethodSpec(name="cfg"), description="guidance method")
    guidance_grid: dict[str, list[JsonValue]] = Field(
        {},
        exclude_if=lambda grid: not grid,  # it came later: outputs of before stay as they are
        description="parameters of the guidance with several values: all combinations in turn",
    )
    sampler: SamplerMethod = Field(MethodSpec(name="ddim"), description="sampler")
    prompt: str = Field("a photo of a {class_name}", description="for text-conditional backbones")
    image_inputs: dict[str, JsonValue] = Field(
        {}, description="what the network sees of the source beside the noised start"
    )
    batch_size: Positive | Literal["auto"] = Field(
        "auto", description="most rows in one model evaluation; auto: tried out once, remembered"
    )
    cache_mb: Annotated[int, Field(ge=0)] = Field(
        512, description="MB on a worker's device for encoded sources and prompts"
    )
    deterministic: bool = Field(
        True, description="byte-identical shards on the same hardware, versions and threads"
    )
    seed: Seed = Field(0, description="first seed of every source image")

    @field_validator("levels", mode="before")
    @classmethod
    def _levels(cls, value: Any) -> tuple[int, ...]:
        """Before pydantic, which would take "50", 50.0 and true for integers."""
        with collected("levels"):
            return parse_levels(value)

    @field_validator("fit")
    @classmethod
    def _fit(cls, value: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        with collected("fit"):
            return None if value is None else checked_fields(FitSpec, value, "fit")

    @field_validator("image_inputs")
    @classmethod
    def _image_inputs(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        with collected("image_inputs"):
            return checked_fields(ImageInputs, value, "image_inputs")

    @field_validator("prompt")
    @classmethod
    def _prompt(cls, value: str) -> str:
        with collected("prompt"):
            # `{class_name.__class__}` and `{class_name:>99999999}` would be format strings, too.
            allowed = "text in which only {class_name} is in braces"
            try:
                fields = [field[1:] for field in Formatter().parse(value) if field[1] is not None]
            except ValueError as error:
                raise ConfigError("prompt", value, allowed) from error
            if any(field != ("class_name", "", None) for field in fields):
                raise ConfigError("prompt", value, allowed)
        return value

    @property
    def guidances(self) -> tuple[MethodSpec, ...]:
        """The guidance of every combination of the grid; one without a grid."""
        names = list(self.guidance_grid)
        return tuple(
            MethodSpec(
                name=self.guidance.name,
                params={**self.guidance.params, **dict(zip(names, values, strict=True))},
            )
            for values in product(*self.guidance_grid.values())
        )

    @property
    def calls_per_step(self) -> float:
        """Model evaluations a step, mean over the grid."""
        methods: list[Guidance] = [build("guidance", spec) for spec in self.guidances]
        return sum(method.calls_per_step for method in methods) / len(methods)

    @model_validator(mode="after")
    def _grid(self) -> "GenerationConfig":
        with collected("guidance_grid"):
            for name, values in self.guidance_grid.items():
                if not values or any(values.count(value) > 1 for value in values):
                    raise ConfigError(f"guidance_grid.{name}", values, "values, none twice")
            opened = set()
            for spec in self.guidances if self.guidance_grid else ():
                method: Guidance = build("guidance", spec, "guidance_grid")
                opened.add(method.files)
            if len(opened) > 1:
                allowed = "parameters other than files: all images of a run share theirs"
                raise ConfigError("guidance_grid", dict(self.guidance_grid), allowed)
        return self

    @model_validator(mode="after")
    def _one_generator(self) -> "GenerationConfig":
        with collected("generation"):
            named = self.backbone is not None or self.fit is not None
            if self.levels and not named:
                allowed = "a backbone, or `fit: {}` to train one on the run's own images"
                raise ConfigError("generation.backbone", None, allowed)
            if named and not self.levels:
                allowed = "at least one level, where there is a generator"
                raise ConfigError("generation.levels", [], allowed)
            if self.backbone is not None and self.fit is not None:
                raise ConfigError("generation.fit", self.fit, "`backbone` or `fit`, not both")
            least = (self.fit or {}).get("least_image_guidance", 0)
            if self.levels and min(self.levels) < least:
                allowed = f"at most {min(self.levels)}, the lowest of generation.levels"
                raise ConfigError("generation.fit.least_image_guidance", least, allowed)
        return self


def parse_levels(value: Any) -> tuple[int, ...]:
    """Levels, ascending.

    Raises:
        ConfigError: naming `levels`.
    """
    if not isinstance(value, list | tuple):
        raise ConfigError("levels", value, "a list of integer percents, e.g. [0, 50]")
    levels = [check_image_guidance(level, f"levels.{i}") for i, level in enumerate(value)]
    if len(set(levels)) != len(levels):
        raise ConfigError("levels", value, "no level twice")
    return tuple(sorted(levels))
