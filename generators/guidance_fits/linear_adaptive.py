"""Coefficients of LinearAG (Castillo et al. 2023, arXiv:2312.12487, Sec. 5)."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import torch
from pydantic import Field
from torch import Tensor

from generators.errors import ConfigError
from generators.guidance.base import shift
from generators.guidance_fits.base import FitStep, GuidanceFit, Materials
from generators.noise import NoiseLevel
from generators.program import Prediction
from generators.steering.fit_file import save_fit
from generators.steering.sampling import conditionings, predict_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearAdaptiveFit:
    """Least squares for the unconditional prediction from all predictions before it.

    One set of coefficients for each image-guidance level of the run, fitted step by step on the
    very path that they lead to: where a past prediction was predicted, that is the regressor. They
    belong to a scale, the steps and DDIM without noise.

    Attributes:
        guidance_scale: w, which the method must then be given as well.
        num_trajectories: of each level.
        ridge: added to the normal equations' diagonal, as a share of its mean.
    """

    guidance_scale: Annotated[float, Field(gt=1, le=100)] = 2.0
    num_trajectories: Annotated[int, Field(ge=1)] = 200
    ridge: Annotated[float, Field(ge=0)] = 1e-8

    def check(self, materials: Materials) -> None:
        """Raises ConfigError for a network without a null conditioning, or nothing to fit to."""
        materials.models.unconditional()
        if not materials.models.walks:
            raise ConfigError("generation.levels", [], "levels below 100")

    def fit(self, materials: Materials, path: Path) -> Iterator[FitStep]:
        """Walks all trajectories of a level in step."""
        walks = materials.models.walks
        total, done = sum(len(walk) - 1 for walk in walks), 0
        tensors: dict[str, Tensor] = {}
        described: list[dict[str, Any]] = []
        for index, walk in enumerate(walks):
            coefficients = torch.zeros(len(walk) - 1, 2, len(walk) - 1, dtype=torch.float64)
            for found in self._walk(materials, walk, coefficients):
                done += 1
                yield FitStep(done=done, total=total, loss=found)
            tensors[f"coefficients.{index}"] = coefficients
            described.append({"timesteps": [level.timestep for level in walk[:-1]]})
        details = {"guidance_scale": self.guidance_scale, "walks": described}
        save_fit(path, "linear_adaptive", materials.models, tensors, details)

    def _walk(
        self, materials: Materials, walk: Sequence[NoiseLevel], coefficients: Tensor
    ) -> Iterator[float | None]:
        """Fills `coefficients` (steps, conditional or not, steps); yields the relative residual."""
        models, size = materials.models, materials.batch_size
        x_t, labels = self._starts(materials, walk[0])
        conds = conditionings(models, labels)
        nothing = [models.unconditional()] * len(conds)
        seen: list[Tensor] = []
        missing: list[Tensor] = []
        steps = len(walk) - 1
        for k, (level, after) in enumerate(itertools.pairwise(walk)):
            x_0, yes = predict_rows(models, x_t, level, conds, size)
            residual: float | None = None
            seen.append(yes)
            if k < steps // 2:
                _, no = predict_rows(models, x_t, level, nothing, size)
                if is_predicted(k, steps):
                    found = least_squares([*seen, *missing], no, self.ridge)
                    coefficients[k, 0, : k + 1], coefficients[k, 1, :k] = found.tensor_split(
                        [k + 1]
                    )
                    exact = no
                    no = combine(coefficients[k], seen, missing)
                    residual = float((no - exact).norm() / exact.norm())
                missing.append(no)
                change = (self.guidance_scale - 1) * (yes - no)
                moved = shift(Prediction(x_0=x_0, eps=yes), change, level)
                x_0, yes = moved.x_0, moved.eps
            x_t = after.alpha * x_0 + after.sigma * yes
            yield residual

    def _starts(self, materials: Materials, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(materials.seed)
        rows = torch.randint(len(materials.labels), (self.num_trajectories,), generator=draw)
        noise = torch.randn(len(rows), *materials.samples.shape[1:], generator=draw)
        clean = materials.samples[rows]
        x_t = level.alpha * clean + level.sigma * noise
        return x_t.to(materials.models.backbone.device), materials.labels[rows]


def is_predicted(step: int, steps: int) -> bool:
    """In the first half every second step is; in the second none is guided at all."""
    return step < steps // 2 and step % 2 == 1


def least_squares(regressors: Sequence[Tensor], wanted: Tensor, ridge: float) -> Tensor:
    """(k,) float64: weights whose sum of regressors is nearest to what is wanted."""
    rows = torch.stack([each.flatten() for each in regressors]).double()
    gram, moment = rows @ rows.T, rows @ wanted.flatten().double()
    diagonal = ridge * gram.diagonal().mean()
    eye = torch.eye(len(gram), device=gram.device, dtype=gram.dtype)
    found: Tensor = torch.linalg.solve(gram + diagonal * eye, moment)
    return found


def combine(coefficients: Tensor, seen: Sequence[Tensor], missing: Sequence[Tensor]) -> Tensor:
    """The predicted unconditional noise.

    Args:
        coefficients: (2, steps), of conditional and of unconditional predictions.
        seen: conditional ones, up to this step.
        missing: unconditional ones before it.
    """
    total = torch.zeros_like(seen[0], dtype=torch.float64)
    for part, history in zip(coefficients, (seen, missing), strict=True):
        for weight, each in zip(part.tolist(), history, strict=False):
            total += weight * each
    return total.to(seen[0].dtype)


METHOD: Final[type[GuidanceFit]] = LinearAdaptiveFit
