"""RIDE's diverse experts, without its router (Wang et al. 2021, arXiv:2010.01809, Eq. 4)."""

from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field
from torch import Tensor

from curriculum.losses.base import Loss, LossContext, prior
from curriculum.losses.ldam import Ldam
from generators.heads import HeadSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Ride:
    """LDAM for each expert, which also move away from what they say together.

    Of each expert: LDAM loss - diversity T^2 KL(mean || expert), both softmaxes at class
    temperatures (0.05 C pi_c + 0.95), relative to the largest, whose mean is T; they are 1 until
    re-weighting begins.

    Attributes:
        num_experts: copies of the last stage.
        diversity: 0.45 for CIFAR, 0.2 elsewhere in the paper.
        max_margin: of LDAM.
        scale: of LDAM.
        deferred_percent: share of the training without LDAM's weights and with temperature 1.
    """

    num_experts: Annotated[int, Field(ge=1)] = 3
    diversity: Annotated[float, Field(ge=0)] = 0.45
    max_margin: Annotated[float, Field(ge=0)] = 0.5
    scale: Annotated[float, Field(gt=0)] = 30.0
    deferred_percent: Annotated[int, Field(ge=0, le=100)] = 80

    @property
    def head(self) -> HeadSpec:
        """Cosine experts."""
        return HeadSpec(kind="cosine", scale=self.scale, num_experts=self.num_experts)

    def loss(self, logits: Tensor, labels: Tensor, context: LossContext) -> Tensor:
        """The sum of the experts' losses of each sample."""
        experts = logits if logits.ndim == 3 else logits[:, None]
        own = Ldam(
            max_margin=self.max_margin, scale=self.scale, deferred_percent=self.deferred_percent
        )
        temperatures = self._temperatures(experts, context)
        mean = (experts.mean(1) / temperatures).softmax(-1)
        each = (experts / temperatures).log_softmax(-1)
        apart = (mean[:, None] * (mean.clamp_min(1e-12).log()[:, None] - each)).sum(-1)
        losses = [own.loss(part, labels, context) for part in experts.unbind(1)]
        repelled = self.diversity * temperatures.mean().square() * apart.sum(1)
        return sum(losses[1:], start=losses[0]) - repelled

    def _temperatures(self, experts: Tensor, context: LossContext) -> Tensor:
        """(num_classes,), at most 1."""
        shares = prior(context.class_counts, experts)
        if 100 * context.progress < self.deferred_percent:
            return experts.new_ones(len(shares))
        raw = 0.05 * len(shares) * shares + 0.95
        return raw / raw.max()


METHOD: Final[type[Loss]] = Ride
