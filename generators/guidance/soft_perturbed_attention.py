"""SoftPAG on chosen heads (Ahn et al. 2025, arXiv:2506.10978)."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from pydantic import Field

from generators.errors import ConfigError, one_of
from generators.guidance.base import Card, Guidance, Target
from generators.guidance.perturbed_attention import away_from
from generators.models import Models
from generators.program import Denoiser
from generators.steering.attention import choose_layers, perturbed, self_attentions
from generators.steering.fit_file import open_fit

AT = "generation.guidance.heads"


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftPerturbedAttention(Guidance):
    """As `perturbed_attention`, for single heads, their maps mixed with the identity by a share.

    Attributes:
        guidance_scale: s of eps + s (eps - eps_pert).
        strength: u of A (1 - u) + u I; 1 is `perturbed_attention`.
        heads: each `layer:head`; none: all heads of the layers in the middle.
        selection: a file of `discl fit-guidance head_hunter`, instead of heads.
    """

    card: ClassVar = Card(
        role="term", paper="Ahn et al. 2025, arXiv:2506.10978", cost="2 evaluations"
    )

    guidance_scale: Annotated[float, Field(ge=0, le=100)] = 3.0
    strength: Annotated[float, Field(ge=0, le=1)] = 0.5
    heads: tuple[str, ...] = ()
    selection: str | None = None

    @property
    def calls_per_step(self) -> float:
        """The network as it is, and perturbed."""
        return 1.0 if self._is_off else 2.0

    @property
    def _is_off(self) -> bool:
        return self.guidance_scale == 0 or self.strength == 0

    @property
    def files(self) -> tuple[str, ...]:
        """The selection."""
        return () if self.selection is None else (self.selection,)

    def check(self, models: Models) -> None:
        """Raises ConfigError for heads the network does not have, or given twice over."""
        if self.heads and self.selection is not None:
            raise ConfigError(AT, list(self.heads), "heads or a selection, not both")
        self._strengths(models)

    def _strengths(self, models: Models) -> dict[str, tuple[float, ...]]:
        """The u of each head of the layers that are touched."""
        known = self_attentions(models.backbone)
        chosen = self.heads
        if self.selection is not None:
            chosen = tuple(open_fit(models, self.selection, "head_hunter", AT).details["heads"])
        if not chosen:
            layers = choose_layers(models.backbone, (), AT)
            return {name: (self.strength,) * known[name] for name in layers}
        choose_layers(models.backbone, (), AT)
        everything = [f"{name}:{head}" for name, count in known.items() for head in range(count)]
        touched: dict[str, list[float]] = defaultdict(list)
        for index, head in enumerate(chosen):
            if head not in everything:
                raise ConfigError(f"{AT}.{index}", head, one_of(everything, head))
            layer, _, number = head.rpartition(":")
            shares = touched[layer] = touched[layer] or [0.0] * known[layer]
            shares[int(number)] = self.strength
        return {name: tuple(shares) for name, shares in touched.items()}

    def denoiser(self, target: Target) -> Denoiser:
        """Extrapolates from the perturbed through the conditional prediction."""
        if self._is_off:
            return target.conditional
        models = target.models
        key = ("soft", self.heads, self.selection, self.strength)
        network = models.keep(key, lambda: perturbed(models, self._strengths(models)))
        return away_from(target, network, self.guidance_scale)


METHOD: Final[type[Guidance]] = SoftPerturbedAttention
