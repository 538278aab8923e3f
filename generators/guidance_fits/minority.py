"""Uniqueness scores and their classifier (Um et al. 2023, arXiv:2301.12334, Sec. 3)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from generators.errors import ConfigError
from generators.guidance_fits.base import FitStep, GuidanceFit, Materials, denoised
from generators.noise import NoiseLevel
from generators.steering.descent import adamw, descend
from generators.steering.fit_file import save_fit
from generators.steering.guide import open_guide
from generators.steering.noisy import NoisyClassifier, NoisyDraws, noise_share

TRAINED_LEVELS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class MinorityFit:
    """How badly the network restores each image once noised says how unusual it takes it to be.

    Images are cut into bins of equal size by that score; a classifier of noisy samples learns the
    bins. The distance is L2 of pixels (or latents), or cosine of a classifier's features where one
    is named; the paper's is LPIPS. What is unusual need not be of a rare class.

    Attributes:
        noise: share of noise at which images are scored; middle to low is best.
        num_draws: noises an image.
        conditional: score under the image's own class, so that bins are of what is unusual within
            classes; otherwise unconditionally.
        classifier: whose features are compared; a file, or `timm:NAME`.
        num_bins: L.
        model: the noisy classifier, `small_cnn` or a timm name.
        steps: of its training.
        learning_rate: of AdamW, falling linearly to 0.
    """

    noise: Annotated[float, Field(gt=0, lt=1)] = 0.4
    num_draws: Annotated[int, Field(ge=1)] = 5
    conditional: bool = True
    classifier: str | None = None
    num_bins: Annotated[int, Field(ge=2)] = 10
    model: str = "small_cnn"
    steps: Annotated[int, Field(ge=1)] = 1000
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3

    def check(self, materials: Materials) -> None:
        """Raises ConfigError for too few images, or a network or classifier that does not fit."""
        if len(materials.labels) < self.num_bins:
            allowed = f"{self.num_bins} images or more, one a bin"
            raise ConfigError("num_bins", len(materials.labels), allowed)
        if not self.conditional:
            materials.models.unconditional()
        if self.classifier is not None:
            open_guide(materials.models, self.classifier, "classifier")
        NoisyClassifier(self.model, self.num_bins, materials.models.backbone.sample_shape)

    def fit(self, materials: Materials, path: Path) -> Iterator[FitStep]:
        """Scores, cuts, trains."""
        total, scores = self.num_draws + self.steps, torch.zeros(len(materials.labels))
        for draw in range(self.num_draws):
            scores += self._score(materials, draw) / self.num_draws
            yield FitStep(done=draw + 1, total=total)
        bins = equal_bins(scores, self.num_bins)
        shape = materials.models.backbone.sample_shape
        network = NoisyClassifier(self.model, self.num_bins, shape, materials.seed)
        network.to(materials.models.backbone.device)
        for step, loss in self._train(network, materials, bins):
            yield FitStep(done=self.num_draws + step, total=total, loss=loss)
        tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
        details = {"num_bins": self.num_bins, "model": self.model}
        tensors |= {"scores": scores, "bins": bins}
        save_fit(path, "minority", materials.models, tensors, details)

    def _score(self, materials: Materials, draw: int) -> Tensor:
        """(N,) distances of one noise an image."""
        models = materials.models
        levels = models.backbone.schedule.levels(TRAINED_LEVELS)[:-1]
        level = min(levels, key=lambda each: abs(noise_share(each) - self.noise))
        given = None if self.conditional else models.unconditional()
        found, _, _ = denoised(materials, level, draw, given)
        return self._distance(materials, found, materials.samples.to(found.device)).cpu()

    @torch.inference_mode()
    def _distance(self, materials: Materials, found: Tensor, wanted: Tensor) -> Tensor:
        if self.classifier is None:
            lengths: Tensor = (found - wanted).flatten(1).norm(dim=1)
            return lengths
        guide = open_guide(materials.models, self.classifier, "classifier")
        apart = [
            1 - functional.cosine_similarity(guide.features(one[None]), guide.features(other[None]))
            for one, other in zip(found, wanted, strict=True)
        ]
        return torch.cat(apart)

    def _train(
        self, network: NoisyClassifier, materials: Materials, bins: Tensor
    ) -> Iterator[tuple[int, float]]:
        levels: tuple[NoiseLevel, ...] = materials.models.backbone.schedule.levels(TRAINED_LEVELS)
        draws, device = NoisyDraws(levels[:-1], materials.seed), materials.models.backbone.device

        def loss_of_batch() -> Tensor:
            rows = draws.indices(len(bins), min(128, len(bins)))
            x_t, share = draws.draw(materials.samples[rows])
            logits = network(x_t.to(device), share.to(device))
            return functional.cross_entropy(logits, bins[rows].to(device))

        optimizer = adamw(network.parameters(), self.learning_rate)
        return descend(network, loss_of_batch, self.steps, optimizer)


def equal_bins(scores: Tensor, num_bins: int) -> Tensor:
    """(N,) int64: 0 the lowest scores; sizes differ by one at most, ties by place."""
    ranks = scores.argsort(stable=True).argsort()
    return ranks * num_bins // len(scores)


METHOD: Final[type[GuidanceFit]] = MinorityFit
