"""Tilts that give classes the shares one wants (Wu et al. 2022, arXiv:2209.06970, Sec. 3.3)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import torch
from pydantic import Field
from torch import Tensor

from generators.errors import ConfigError, one_of
from generators.guidance_fits.base import FitStep, GuidanceFit, Materials
from generators.steering.fit_file import save_fit
from generators.steering.guide import check_guide, open_guide
from generators.steering.sampling import generate

Share = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributionFit:
    """Finds beta, so that images weighed by exp(beta . p) have the wanted mean of p.

    p are a classifier's probabilities, e.g. of attributes that shall not go with the class.

    Attributes:
        classifier: of the attributes; a file, or `timm:NAME` with its weights.
        shares: class of the classifier to its share; they sum to 1; none: all alike.
        num_images: that the network makes, classes of the data set in turn.
    """

    classifier: str
    shares: Mapping[str, Share] = field(default_factory=dict)
    num_images: Annotated[int, Field(ge=2)] = 500

    def check(self, materials: Materials) -> None:
        """Raises ConfigError for shares that are not of all the classifier's classes."""
        check_guide(self.classifier, materials.models, "classifier", names=False)
        self._wanted(open_guide(materials.models, self.classifier, "classifier").info.class_names)

    def _wanted(self, names: tuple[str, ...]) -> Tensor:
        if not self.shares:
            return torch.full((len(names),), 1 / len(names), dtype=torch.float64)
        for name in self.shares:
            if name not in names:
                raise ConfigError(f"shares.{name}", name, one_of(names, name))
        missing = sorted(set(names) - set(self.shares))
        if missing or abs(sum(self.shares.values()) - 1) > 1e-6:
            allowed = f"shares of all of {list(names)} that sum to 1"
            raise ConfigError("shares", dict(self.shares), allowed)
        return torch.tensor([self.shares[name] for name in names], dtype=torch.float64)

    def fit(self, materials: Materials, path: Path) -> Iterator[FitStep]:
        """Makes images, looks at them, solves."""
        models = materials.models
        guide = open_guide(models, self.classifier, "classifier")
        labels = torch.arange(self.num_images) % len(models.class_names)
        steps, size = materials.num_inference_steps, materials.batch_size
        samples = generate(models, labels, steps, size, materials.seed)
        yield FitStep(done=1, total=2)
        with torch.inference_mode():
            rows = [guide.logits(part.to(models.backbone.device)) for part in _parts(samples, size)]
        found = torch.cat(rows).softmax(1).double().cpu()
        tilts = solve_tilts(found, self._wanted(guide.info.class_names))
        means = found.mean(0).tolist()
        details = {"class_names": list(guide.info.class_names), "shares_before": means}
        save_fit(path, "distribution", models, {"tilts": tilts.float()}, details)
        yield FitStep(done=2, total=2)


def solve_tilts(features: Tensor, wanted: Tensor, iterations: int = 200) -> Tensor:
    """Beta (k,) with sum to 0, whose weights exp(beta . features) have the wanted mean features.

    Minimises the convex log mean exp(beta . features) - beta . wanted by damped Newton steps; a
    mean outside of what the features span has no solution, and then beta grows to the bound.

    Args:
        features: (N, k) float64.
        wanted: (k,).
        iterations: at most.
    """
    beta = torch.zeros(features.shape[1], dtype=torch.float64)
    for _ in range(iterations):
        weights = (features @ beta).softmax(0)
        mean = weights @ features
        centred = features - mean
        covariance = (centred * weights[:, None]).T @ centred
        gap = wanted - mean
        if float(gap.abs().max()) < 1e-9:
            break
        step = torch.linalg.pinv(covariance, rtol=1e-9) @ gap
        beta = (beta + step / max(1.0, float(step.abs().max()))).clamp(-50, 50)
    return beta - beta.mean()


def _parts(samples: Tensor, size: int) -> list[Tensor]:
    return [samples[start : start + size] for start in range(0, len(samples), size)]


METHOD: Final[type[GuidanceFit]] = DistributionFit
