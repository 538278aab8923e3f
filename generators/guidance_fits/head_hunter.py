"""HeadHunter (Ahn et al. 2025, arXiv:2506.10978, Alg. 1): which attention heads to perturb."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import torch
from pydantic import Field

from generators.guidance.soft_perturbed_attention import SoftPerturbedAttention
from generators.guidance_fits.base import FitStep, GuidanceFit, Materials
from generators.models import Models
from generators.steering.attention import choose_layers, self_attentions
from generators.steering.fit_file import save_fit
from generators.steering.guide import check_guide, open_guide
from generators.steering.sampling import generate


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadHunterFit:
    """Greedy search: in each round the heads that score best beside those already chosen are added.

    The score is the mean log-probability of the class that was asked for, under a classifier: do
    not judge the result by the same one. Costs heads x images x rounds samples, each of two
    evaluations a step.

    Attributes:
        classifier: that scores; a file, or `timm:NAME` with its weights.
        guidance_scale: of the samples.
        strength: of the perturbation while searching.
        num_images: of each head; classes in turn, the same noises for all.
        rounds: R.
        heads_per_round: k.
        layers: to search, as `perturbed_attention` has them; none: all.
    """

    classifier: str
    guidance_scale: Annotated[float, Field(gt=0, le=100)] = 3.0
    strength: Annotated[float, Field(gt=0, le=1)] = 1.0
    num_images: Annotated[int, Field(ge=1)] = 20
    rounds: Annotated[int, Field(ge=1)] = 1
    heads_per_round: Annotated[int, Field(ge=1)] = 4
    layers: tuple[str, ...] = ()

    def check(self, materials: Materials) -> None:
        """Raises ConfigError for a network without self-attention, or an unknown classifier."""
        choose_layers(materials.models.backbone, self.layers, "layers")
        check_guide(self.classifier, materials.models, "classifier", differentiable=False)

    def fit(self, materials: Materials, path: Path) -> Iterator[FitStep]:
        """Scores every remaining head in every round."""
        candidates = self._heads(materials.models)
        sizes = [len(candidates) - r * self.heads_per_round for r in range(self.rounds)]
        total, done = sum(max(size, 0) for size in sizes), 0
        chosen: list[str] = []
        scores: dict[str, float] = {}
        for _ in range(self.rounds):
            found: dict[str, float] = {}
            for head in (each for each in candidates if each not in chosen):
                found[head] = self._score(materials, (*chosen, head))
                done += 1
                yield FitStep(done=done, total=total, loss=-max(found.values()))
            best = best_of(found, self.heads_per_round)
            chosen += best
            scores |= {head: found[head] for head in best}
        details = {"heads": chosen, "scores": scores, "guidance_scale": self.guidance_scale}
        save_fit(path, "head_hunter", materials.models, {}, details)

    def _heads(self, models: Models) -> list[str]:
        known = self_attentions(models.backbone)
        layers = choose_layers(models.backbone, self.layers, "layers") if self.layers else known
        return [f"{layer}:{head}" for layer in layers for head in range(known[layer])]

    def _score(self, materials: Materials, heads: Sequence[str]) -> float:
        models = materials.models
        fresh = Models(models.backbone, models.class_names, models.prompt)
        guidance = SoftPerturbedAttention(
            guidance_scale=self.guidance_scale, strength=self.strength, heads=tuple(heads)
        )
        labels = torch.arange(self.num_images) % len(models.class_names)
        steps, size = materials.num_inference_steps, materials.batch_size
        samples = generate(fresh, labels, steps, size, materials.seed, guidance)
        guide = open_guide(models, self.classifier, "classifier")
        columns = [guide.index(name, "classifier") for name in models.class_names]
        with torch.inference_mode():
            logits = guide.logits(samples.to(models.backbone.device)).cpu()[:, columns]
        return float(logits.log_softmax(1).gather(1, labels[:, None]).mean())


def best_of(scores: dict[str, float], count: int) -> list[str]:
    """Names of the highest scores, highest first; ties in the order given."""
    return sorted(scores, key=lambda name: -scores[name])[:count]


METHOD: Final[type[GuidanceFit]] = HeadHunterFit
