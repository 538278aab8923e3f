"""Diffusers' own guiders (`diffusers.guiders`), unchanged, inside a program."""

import inspect
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Final

from torch import Tensor

from generators.errors import ConfigError, one_of
from generators.guidance.base import Card, Guidance, Target
from generators.models import Models
from generators.noise import NoiseLevel, PredictionType
from generators.prediction import from_raw, raw_output
from generators.program import (
    Conditioning,
    Denoiser,
    ModelCall,
    Network,
    Prediction,
    Program,
    ask,
    gather,
)
from generators.registry import JsonValue, canonical_json
from generators.steering.attention import check_shareable
from generators.steering.sharing import sharing_copy

AT = "generation.guidance"
CLEAN = frozenset({"LTX2Guidance"})
"""Guiders that expect predicted clean images; the others get what the network was trained for."""
FLAT = frozenset({"MagnitudeAwareGuidance"})
"""Guiders whose Frobenius norm torch refuses over three dimensions; over two it is the same."""
STEPS = 20
"""Of a run that is gone through to find what a guider asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusersGuider(Guidance):
    """Any guider of the installed diffusers, unchanged: `diffusers:SkipLayerGuidance`.

    Parameters and defaults are its own. Guiders that change the network (skip layers, perturb
    attention) change a copy of its modules around the same weights; rows of other requests never
    see it. Layers are named as diffusers names them, e.g. {indices: [0], fqn: mid_block.attentions,
    skip_attention_scores: true}.

    Attributes:
        guider: name of the class.
        settings: its parameters.
    """

    VARIANT: ClassVar[str] = "guider"
    card: ClassVar = Card(
        role="alone", paper="", cost="1 evaluation for each prediction that the guider asks for"
    )

    guider: str
    settings: dict[str, JsonValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ConfigError for an unknown guider, or parameters that it does not take."""
        known = guider_classes()
        if self.guider not in known:
            raise ConfigError("guider", self.guider, one_of(known, self.guider))
        taken = set(inspect.signature(known[self.guider]).parameters) - {"enabled"}
        for name, value in self.settings.items():
            if name not in taken:
                raise ConfigError(f"settings.{name}", value, one_of(taken, name))
        refuse(self.guider, self.settings)
        self._make()

    def _make(self) -> Any:
        """A guider for one request: it counts steps, and some remember."""
        return make(self.guider, self.settings)

    @property
    def _asked(self) -> tuple[tuple[str, ...], ...]:
        return asked(self.guider, canonical_json(self.settings))

    @property
    def needs_unconditional(self) -> bool:
        """Where the guider asks for it."""
        return any("pred_uncond" in names for names in self._asked)

    @property
    def calls_per_step(self) -> float:
        """As many predictions as the guider asks for."""
        return float(max(len(names) for names in self._asked))

    def check(self, models: Models) -> None:
        """Raises ConfigError for layers that the network does not have."""
        if self.needs_unconditional:
            models.unconditional()
        guider = self._make()
        for step in range(STEPS):
            guider.set_state(step, STEPS, 0)
            for _ in guider.prepare_inputs(SLOTS):
                self._network(guider, models)

    def denoiser(self, target: Target) -> Denoiser:
        """Asks for what the guider wants and lets it put the answers together."""
        guider, models = self._make(), target.models
        own = models.backbone.schedule.prediction_type
        space: PredictionType = "sample" if self.guider in CLEAN else own
        steps, step = max(1, len(target.walk) - 1), 0

        def denoise(x_t: Tensor, level: NoiseLevel) -> Program[Prediction]:
            nonlocal step
            guider.set_state(step, steps, x_t.new_tensor(level.timestep))
            step += 1
            batches, calls = guider.prepare_inputs(SLOTS), []
            for batch in batches:
                cond: Conditioning = target.cond
                if batch.slot == "uncond":
                    assert target.uncond is not None
                    cond = target.uncond
                network = self._network(guider, models)
                calls.append(ModelCall(x_t=x_t, level=level, cond=cond, network=network))
            found = yield from gather(*(ask(call) for call in calls))
            for batch, prediction in zip(batches, found, strict=True):
                output = raw_output(prediction, level, space)[None]
                batch.noise_pred = output.flatten(2) if self.guider in FLAT else output
            mixed = guider(batches).pred
            for batch, prediction in zip(batches, found, strict=True):
                if mixed is batch.noise_pred:
                    return prediction  # as it was: no round trip through another form
            return from_raw(x_t, mixed.view_as(x_t), level, space)

        return denoise

    def _network(self, guider: Any, models: Models) -> Network | None:
        """The network as the guider wants it for its next prediction; None for as it is."""
        denoiser = models.backbone.denoiser
        if denoiser is None:
            prepare(guider, Refusing())
            return None
        key = (self.guider, str(self.settings))
        probe = models.keep(("diffusers probe", *key), lambda: sharing_copy(denoiser))
        try:
            prepare(guider, probe)
        except ValueError as error:
            allowed = f"layers that this network has ({error})"
            raise ConfigError(AT, dict(self.settings), allowed) from error
        changed = is_changed(probe)
        guider.cleanup_models(probe)
        if not changed:
            return None
        check_shareable(models.backbone)
        return models.keep(("diffusers", *key), lambda: self._changed(guider, models))

    def _changed(self, guider: Any, models: Models) -> Network:
        """A copy of the network that the guider has prepared for good."""
        module = sharing_copy(models.backbone.denoiser)
        guider._count_prepared -= 1  # it counts calls, and this one repeats the last
        prepare(guider, module)
        return models.backbone.with_denoiser(module)


SLOTS = {"slot": ("cond", "uncond", "cond", "cond")}
"""What a guider chooses from: conditional, unconditional, and twice more conditional (LTX2)."""


class Refusing:
    """Stands in for a network without modules."""

    def __getattr__(self, name: str) -> Any:
        allowed = "another guider: this network has no layers to change"
        raise ConfigError(f"{AT}.guider", name, allowed)


def make(guider: str, settings: Mapping[str, JsonValue]) -> Any:
    """A new guider.

    Raises:
        ConfigError: parameters that it refuses, or a library that it needs and is not here.
    """
    try:
        with silent():
            return guider_classes()[guider](**settings)
    except (ImportError, TypeError, ValueError) as error:
        raise ConfigError("settings", dict(settings), f"what {guider} takes ({error})") from error


@cache
def asked(guider: str, settings: str) -> tuple[tuple[str, ...], ...]:
    """Names of the predictions that a guider asks for at each step of a run.

    Args:
        guider: name of the class.
        settings: its parameters as JSON.
    """
    found, one = [], make(guider, json.loads(settings))
    for step in range(STEPS):
        one.set_state(step, STEPS, 0)
        found.append(tuple(name_of(batch) for batch in one.prepare_inputs(SLOTS)))
    return tuple(found)


def prepare(guider: Any, module: Any) -> None:
    """Puts on a network what the guider wants for its next prediction, and counts it.

    Diffusers 0.42 forgets to count in `SmoothedEnergyGuidance`, which then never changes anything.
    """
    before = guider._count_prepared
    with silent():
        guider.prepare_models(module)
        if guider._count_prepared == before:
            guider._count_prepared += 1
            guider.prepare_models(module)


def name_of(batch: Any) -> str:
    """Which prediction a guider takes a batch for."""
    found: str = batch.__guidance_identifier__
    return found


def guider_classes() -> dict[str, Any]:
    """All guiders of the installed diffusers, by name."""
    from diffusers import guiders

    base = guiders.BaseGuidance
    return {
        name: value
        for name, value in vars(guiders).items()
        if inspect.isclass(value) and issubclass(value, base) and value is not base
    }


def refuse(guider: str, settings: dict[str, JsonValue]) -> None:
    """Raises ConfigError for what cannot be right here."""
    if guider == "LTX2Guidance":
        for name, off in (("stg_scale", 0.0), ("modality_scale", 1.0)):
            if settings.get(name, off) != off:
                allowed = f"{off}: the rest is for networks of video and sound"
                raise ConfigError(f"settings.{name}", settings[name], allowed)
    if settings.get("dropout") not in (None, 1, 1.0):
        allowed = "1: random dropout would differ with what shares a batch"
        raise ConfigError("settings.dropout", settings["dropout"], allowed)


def is_changed(module: Any) -> bool:
    """Whether hooks of diffusers are on any part of a network."""
    registries = (getattr(part, "_diffusers_hook", None) for part in module.modules())
    return any(registry is not None and registry.hooks for registry in registries)


@contextmanager
def silent() -> Iterator[None]:
    """Without the notice that guiders are experimental, once for each request."""
    logger = logging.getLogger("diffusers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


METHOD: Final[type[Guidance]] = DiffusersGuider
