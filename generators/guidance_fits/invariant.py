"""InvDiff (Hou et al. 2025, arXiv:2412.08480): groups without labels, and a module fair to all."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import torch
from pydantic import Field
from torch import Tensor

from generators.errors import ConfigError
from generators.guidance_fits.base import FitStep, GuidanceFit, Materials, denoised
from generators.seeding import seeded
from generators.steering.delta import DeltaNetwork
from generators.steering.descent import descend
from generators.steering.fit_file import save_fit
from generators.steering.noisy import NoisyDraws
from generators.steering.sampling import conditionings, predict_rows

TRAINED_LEVELS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class InvariantFit:
    """Finds the groups that the network serves most unequally, then what makes them alike.

    Groups are a soft assignment of the training images that maximises the spread of the groups'
    denoising losses; no attribute is named. A small network, added to the prediction, is then
    trained on the mean and the variance of the groups' losses; the generator stays as it is.

    Attributes:
        num_groups: G.
        num_losses: noises an image by which its loss is told.
        group_steps: Adam updates of the assignment.
        balance: how much groups of unequal size cost in its search.
        penalty: lambda of mean + lambda variance.
        width: of the small network.
        depth: of it.
        steps: of its training.
        learning_rate: of AdamW.
    """

    num_groups: Annotated[int, Field(ge=1)] = 4
    num_losses: Annotated[int, Field(ge=1)] = 8
    group_steps: Annotated[int, Field(ge=1)] = 500
    balance: Annotated[float, Field(ge=0)] = 1.0
    penalty: Annotated[float, Field(ge=0)] = 1.0
    width: Annotated[int, Field(ge=1)] = 32
    depth: Annotated[int, Field(ge=1)] = 3
    steps: Annotated[int, Field(ge=1)] = 500
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3

    def check(self, materials: Materials) -> None:
        """Raises ConfigError for fewer images than groups."""
        if len(materials.labels) < self.num_groups:
            allowed = f"{self.num_groups} images or more, one a group"
            raise ConfigError("num_groups", len(materials.labels), allowed)

    def fit(self, materials: Materials, path: Path) -> Iterator[FitStep]:
        """Losses, groups, training."""
        models, total = materials.models, self.num_losses + 1 + self.steps
        levels = models.backbone.schedule.levels(TRAINED_LEVELS)[:-1]
        losses = torch.zeros(len(materials.labels))
        for draw in range(self.num_losses):
            level = levels[(2 * draw + 1) * len(levels) // (2 * self.num_losses)]
            _, found, eps = denoised(materials, level, draw)
            losses += (found.cpu() - eps).square().flatten(1).mean(1) / self.num_losses
            yield FitStep(done=draw + 1, total=total)
        groups = infer_groups(
            losses, self.num_groups, self.group_steps, self.balance, materials.seed
        )
        yield FitStep(done=self.num_losses + 1, total=total)
        module = self._module(materials)
        for step, loss in self._train(module, materials, groups):
            yield FitStep(done=self.num_losses + 1 + step, total=total, loss=loss)
        tensors = {f"module.{name}": value for name, value in module.state_dict().items()}
        tensors |= {"losses": losses, "groups": groups}
        details = {"width": self.width, "depth": self.depth, "classes": list(models.class_names)}
        save_fit(path, "invariant", models, tensors, details)

    def _module(self, materials: Materials) -> DeltaNetwork:
        models = materials.models
        channels, count = models.backbone.sample_shape[0], len(models.class_names)
        with seeded(materials.seed):
            module = DeltaNetwork(channels, count, self.width, self.depth)
        return module.to(models.backbone.device)

    def _train(
        self, module: DeltaNetwork, materials: Materials, groups: Tensor
    ) -> Iterator[tuple[int, float]]:
        models, device = materials.models, materials.models.backbone.device
        draws = NoisyDraws(models.backbone.schedule.levels(TRAINED_LEVELS)[:-1], materials.seed)

        def loss_of_batch() -> Tensor:
            rows = draws.indices(len(groups), min(64, len(groups)))
            x_t, eps, base, timesteps = noised(draws, materials, rows)
            labels = materials.labels[rows].to(device)
            added = module(x_t.to(device), timesteps.to(device), labels)
            losses = (base + added - eps.to(device)).square().flatten(1).mean(1)
            return invariant_loss(losses, groups[rows].to(device), self.penalty)

        optimizer = torch.optim.AdamW(module.parameters(), lr=self.learning_rate)
        return descend(module, loss_of_batch, self.steps, optimizer, decays=False)


def noised(
    draws: NoisyDraws, materials: Materials, rows: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x_t, its noise, what the generator takes for the noise, and timesteps, of images."""
    models = materials.models
    level = draws.level()
    eps = torch.randn(materials.samples[rows].shape, generator=draws.generator)
    x_t = level.alpha * materials.samples[rows] + level.sigma * eps
    conds = conditionings(models, materials.labels[rows])
    device = models.backbone.device
    _, base = predict_rows(models, x_t.to(device), level, conds, materials.batch_size)
    return x_t, eps, base.clone(), torch.full((len(rows),), level.timestep)


def group_losses(losses: Tensor, groups: Tensor) -> Tensor:
    """(G,): sum_j W_jg l_j / sum_j W_jg."""
    weights: Tensor = groups / groups.sum(0).clamp_min(1e-12)
    return losses @ weights


def invariant_loss(losses: Tensor, groups: Tensor, penalty: float) -> Tensor:
    """Mean and variance of the groups' losses.

    Args:
        losses: (N,).
        groups: (N, G), rows sum to 1.
        penalty: of the variance.
    """
    found = group_losses(losses, groups)
    return found.mean() + penalty * found.var(correction=0)


def infer_groups(losses: Tensor, num_groups: int, steps: int, balance: float, seed: int) -> Tensor:
    """(N, G) assignment that spreads the groups' losses apart; rows sum to 1.

    Args:
        losses: (N,).
        num_groups: G.
        steps: of Adam with rate 0.05.
        balance: weight of the relative entropy of the groups' sizes to equal ones.
        seed: of the start.
    """
    scaled = (losses - losses.mean()) / losses.std(correction=0).clamp_min(1e-12)
    draw = torch.Generator().manual_seed(seed)
    logits = (0.01 * torch.randn(len(losses), num_groups, generator=draw)).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(steps):
        groups = logits.softmax(1)
        sizes = groups.mean(0)
        uneven = (sizes * (sizes * num_groups).clamp_min(1e-12).log()).sum()
        spread = group_losses(scaled, groups).var(correction=0).clamp_min(1e-12).sqrt()
        optimizer.zero_grad(set_to_none=True)
        (balance * uneven - spread).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return logits.detach().softmax(1)


METHOD: Final[type[GuidanceFit]] = InvariantFit
