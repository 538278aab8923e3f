"""Experts of PPAP (Go et al. 2023, arXiv:2212.05973, Sec. 4): one classifier for all noise."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from generators.guidance_fits.base import FitStep, GuidanceFit, Materials
from generators.noise import NoiseLevel
from generators.steering.descent import adamw, descend
from generators.steering.experts import make_expert, trained_state
from generators.steering.fit_file import save_fit
from generators.steering.guide import Guide, check_guide, open_guide
from generators.steering.noisy import NoisyDraws, noise_share
from generators.steering.sampling import generate

TRAINED_LEVELS = 250
AT = "classifier"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlugAndPlayFit:
    """Teaches copies of an off-the-shelf classifier to say of noisy images what it says of clean.

    No data and no labels: the images are the network's own. Each copy is for a range of noise of
    its own, and only low-rank additions, norms and biases are trained.

    Attributes:
        classifier: a file that a run or `discl train` left, or `timm:NAME` with its weights.
        num_experts: ranges of equal shares of noise.
        rank: of the additions.
        alpha: they count alpha / rank.
        temperature: of the teacher; below 1 sharpens.
        num_images: that the network makes for it.
        steps: of training, of each expert.
        learning_rate: of AdamW, falling linearly to 0.
    """

    classifier: str
    num_experts: Annotated[int, Field(ge=1)] = 5
    rank: Annotated[int, Field(ge=1)] = 16
    alpha: Annotated[float, Field(gt=0)] = 8.0
    temperature: Annotated[float, Field(gt=0)] = 0.25
    num_images: Annotated[int, Field(ge=1)] = 1000
    steps: Annotated[int, Field(ge=1)] = 300
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3

    def check(self, materials: Materials) -> None:
        """Raises ConfigError for a classifier of other classes."""
        check_guide(self.classifier, materials.models, AT)

    def fit(self, materials: Materials, path: Path) -> Iterator[FitStep]:
        """Makes images, asks the teacher, trains one expert after another."""
        models, total = materials.models, 1 + self.num_experts * self.steps
        classes = torch.arange(self.num_images) % len(models.class_names)
        samples = generate(
            models, classes, materials.num_inference_steps, materials.batch_size, materials.seed
        )
        yield FitStep(done=1, total=total)
        guide = open_guide(models, self.classifier, AT)
        wanted = self._teach(guide, samples, materials.batch_size)
        tensors: dict[str, Tensor] = {}
        for number in range(self.num_experts):
            expert = make_expert(guide.network, self.rank, self.alpha)
            draws = NoisyDraws(self._levels(materials, number), materials.seed + number)
            for step, loss in self._train(guide, expert, draws, samples, wanted):
                yield FitStep(done=1 + number * self.steps + step, total=total, loss=loss)
            tensors |= {f"{number}/{name}": v for name, v in trained_state(expert).items()}
        details = {
            "num_experts": self.num_experts,
            "rank": self.rank,
            "alpha": self.alpha,
            "class_names": list(guide.info.class_names),
            "model": guide.info.model,
        }
        save_fit(path, "plug_and_play", models, tensors, details)

    def _levels(self, materials: Materials, number: int) -> tuple[NoiseLevel, ...]:
        schedule = materials.models.backbone.schedule
        levels = schedule.levels(TRAINED_LEVELS)[:-1]
        return tuple(each for each in levels if expert_of(each, self.num_experts) == number)

    @torch.inference_mode()
    def _teach(self, guide: Guide, samples: Tensor, batch_size: int) -> Tensor:
        """(N, num_classes) log-probabilities of clean images, sharpened."""
        device = guide.backbone.device
        logits = [
            guide.logits(samples[start : start + batch_size].to(device))
            for start in range(0, len(samples), batch_size)
        ]
        return (torch.cat(logits) / self.temperature).log_softmax(1)

    def _train(
        self, guide: Guide, expert: nn.Module, draws: NoisyDraws, samples: Tensor, wanted: Tensor
    ) -> Iterator[tuple[int, float]]:
        noisy = Guide(network=expert, info=guide.info, backbone=guide.backbone, clip=False)
        wanted = wanted.clone()  # made in inference mode

        def loss_of_batch() -> Tensor:
            rows = draws.indices(len(samples), min(64, len(samples)))
            x_t, _ = draws.draw(samples[rows])
            said = noisy.logits(x_t.to(guide.backbone.device)).log_softmax(1)
            teacher = wanted[rows.to(wanted.device)]
            return functional.kl_div(said, teacher, reduction="batchmean", log_target=True)

        weights = [each for each in expert.parameters() if each.requires_grad]
        return descend(expert, loss_of_batch, self.steps, adamw(weights, self.learning_rate))


def expert_of(level: NoiseLevel, num_experts: int) -> int:
    """Which expert a level is for: [0, 1/N), [1/N, 2/N), ..., [(N-1)/N, 1] of the noise's share."""
    return min(int(noise_share(level) * num_experts), num_experts - 1)


METHOD: Final[type[GuidanceFit]] = PlugAndPlayFit
