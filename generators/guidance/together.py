"""Several guidance methods at once: contrasts add up, gradients move what they made."""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Final

from pydantic import Field
from torch import Tensor

from generators.errors import ConfigError
from generators.guidance.base import Card, Guidance, Target, add_direction
from generators.models import Models
from generators.noise import NoiseLevel
from generators.program import Denoiser, Prediction, Program, gather
from generators.registry import JsonValue, MethodSpec, build


@dataclass(frozen=True, slots=True, kw_only=True)
class Together(Guidance):
    """What a list of methods stands for: c + (g - c) for each, then the gradients in their order.

    With c the conditional prediction and g each method's own; a term is therefore not multiplied by
    a contrast's scale. A contrast and any number of the others; each once.

    Attributes:
        methods: each with its parameters.
    """

    card: ClassVar = Card(
        role="alone", paper="", cost="1 evaluation and what each method costs beside it"
    )

    methods: Annotated[list[dict[str, JsonValue]], Field(min_length=1)]

    def __post_init__(self) -> None:
        """Checks that they can be joined.

        Raises:
            ConfigError: two that cannot, a method twice, an unknown one, or a wrong parameter.
        """
        names = [str(values.get("name")) for values in self.methods]
        roles = [part.card.role for part in self.parts]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise ConfigError(f"methods.{index}", name, "each method once")
        contrasts = [name for name, role in zip(names, roles, strict=True) if role == "contrast"]
        if len(contrasts) > 1:
            allowed = (
                f"one of {', '.join(contrasts)}: each of them decides alone how the conditional "
                "prediction is weighed against others"
            )
            raise ConfigError("methods", names, allowed)
        for name, role in zip(names, roles, strict=True):
            if role in ("alone", "none") and len(names) > 1:
                allowed = f"{name} alone: it takes the predictions as they are and joins no other"
                raise ConfigError("methods", names, allowed)

    @property
    def parts(self) -> tuple[Guidance, ...]:
        """The methods, built."""
        specs = [spec_of(values, f"methods.{index}") for index, values in enumerate(self.methods)]
        return tuple(build("guidance", s, f"methods.{i}") for i, s in enumerate(specs))

    @property
    def needs_unconditional(self) -> bool:
        """Where one of them does."""
        return any(part.needs_unconditional for part in self.parts)

    @property
    def calls_per_step(self) -> float:
        """They share the conditional evaluation."""
        return 1.0 + sum(max(part.calls_per_step - 1, 0) for part in self.parts)

    @property
    def files(self) -> tuple[str, ...]:
        """Of all of them."""
        return tuple(file for part in self.parts for file in part.files)

    def check(self, models: Models) -> None:
        """Checks each of them."""
        for part in self.parts:
            part.check(models)

    def verify(self, target: Target, sample: Tensor) -> Program[None]:
        """Every one of them must be content."""
        for part in self.parts:
            yield from part.verify(target, sample)

    def denoiser(self, target: Target) -> Denoiser:
        """Runs the contrasts side by side; every distinct evaluation is made once."""
        parts = self.parts
        mixing = [part.denoiser(target) for part in parts if part.card.role != "gradient"]
        denoise = _sum(target, mixing) if len(mixing) > 1 else (mixing or [target.conditional])[0]
        for part in parts:
            if part.card.role == "gradient":
                denoise = part.denoiser(replace(target, base=denoise))
        return denoise


def _sum(target: Target, mixing: list[Denoiser]) -> Denoiser:
    def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
        plain, *guided = yield from gather(
            target.conditional(x_t, level), *(each(x_t, level) for each in mixing)
        )
        mixed = plain
        for each in guided:
            mixed = add_direction(mixed, plain, each)
        return mixed

    return denoise


def spec_of(values: dict[str, JsonValue], at: str) -> MethodSpec:
    """A method from its plain form.

    Raises:
        ConfigError: it has no name.
    """
    if not isinstance(values.get("name"), str):
        raise ConfigError(at, values, "a method: {name: ..., parameters}")
    return MethodSpec(name=values["name"], params={k: v for k, v in values.items() if k != "name"})


METHOD: Final[type[Guidance]] = Together
