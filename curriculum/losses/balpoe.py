"""BalPoE: a balanced product of experts (Aimar et al. 2023, arXiv:2206.05260, Eq. 9)."""

from dataclasses import dataclass
from typing import Final

from torch import Tensor
from torch.nn import functional

from curriculum.losses.base import Loss, LossContext, prior
from generators.errors import ConfigError
from generators.heads import HeadSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Balpoe:
    """Experts with logit-adjusted losses of different tau; the mean of their logits is unbiased.

    The product needs calibrated experts: train them with mixup.

    Attributes:
        taus: one an expert, with a mean of 1; a single 1 is Balanced Softmax.
    """

    taus: tuple[float, ...] = (0.0, 1.0, 2.0)

    def __post_init__(self) -> None:
        if not self.taus or abs(sum(self.taus) / len(self.taus) - 1) > 1e-6:
            raise ConfigError("balpoe.taus", self.taus, "numbers with a mean of 1")

    @property
    def head(self) -> HeadSpec:
        """An expert a tau."""
        return HeadSpec(num_experts=len(self.taus))

    def loss(self, logits: Tensor, labels: Tensor, context: LossContext) -> Tensor:
        """The mean of the experts' losses of each sample."""
        experts = logits if logits.ndim == 3 else logits[:, None]
        taus = experts.new_tensor(self.taus)
        shifted = experts + taus[:, None] * prior(context.class_counts, experts).log()
        losses = [
            functional.cross_entropy(shifted[:, number], labels, reduction="none")
            for number in range(len(self.taus))
        ]
        return sum(losses[1:], start=losses[0]) / len(losses)


METHOD: Final[type[Loss]] = Balpoe
