"""A Gaussian mixture with closed-form scores: the ideal denoiser, used as test oracle.

p(x | c) = (1/M) sum_m N(mu_cm, v I) with class prior pi_c. At level (alpha, sigma) it is the
mixture with means alpha mu and variance V = alpha**2 v + sigma**2, and
eps(x) = sigma sum_m r_m(x) (x - alpha mu_m) / V, r the responsibilities (Tweedie's formula).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, NoReturn

import torch
from pydantic import Field
from torch import Tensor, nn

from generators.backbones.base import (
    Backbone,
    BackboneSpec,
    ImageConditioning,
    no_image_inputs,
)
from generators.errors import ConfigError, one_of
from generators.noise import NoiseSchedule
from generators.program import Conditioning
from generators.records import ImageInputs, num_denoising_steps
from generators.registry import content_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Toy:
    """Exact scores of a Gaussian mixture; no training, no files; a test oracle.

    Attributes:
        means: class name to its component means, each a flat list of C * h * w values in [-1, 1].
        prior: class name to its probability; equal where empty.
        variance: v of every component.
        shape: (C, h, w) of a sample.
    """

    means: dict[str, list[list[float]]]
    prior: dict[str, float] | None = None
    variance: Annotated[float, Field(gt=0)] = 0.02
    shape: tuple[int, int, int] = (1, 1, 2)

    def check(self) -> None:
        """Checks that the parameters describe a mixture.

        Raises:
            ConfigError: no class, a mean of another length than the shape holds, or a prior that
                does not give each class a share.
        """
        if not self.means:
            raise ConfigError("means", self.means, "at least one class")
        length = math.prod(self.shape)
        for name, means in self.means.items():
            if not means or any(len(mean) != length for mean in means):
                allowed = f"at least one mean of {length} values (shape {self.shape})"
                raise ConfigError(f"means.{name}", [len(mean) for mean in means], allowed)
        prior = self.prior or {}
        if prior and (set(prior) != set(self.means) or min(prior.values()) <= 0):
            raise ConfigError("prior", prior, f"a share > 0 for each of {sorted(self.means)}")

    def num_steps(self, num_inference_steps: int, image_guidance: int) -> int:
        """The usual count."""
        return num_denoising_steps(num_inference_steps, image_guidance)

    def load(self, device: str) -> Backbone:
        """Builds the mixture; raises what `check` does."""
        self.check()
        return GaussianMixture(self, torch.device(device))


class GaussianMixture:
    """The loaded mixture; Stable Diffusion's noise schedule, epsilon prediction."""

    def __init__(self, spec: Toy, device: torch.device) -> None:
        self.device = device
        self.sample_shape = self.pixel_shape = spec.shape
        self.class_names: tuple[str, ...] | None = tuple(spec.means)
        self.card: dict[str, object] = {"knowledge": "the exact mixture"}
        prior = spec.prior or dict.fromkeys(spec.means, 1 / len(spec.means))
        self.fingerprint = content_hash(
            {"toy": spec.means, "prior": prior, "v": spec.variance, "shape": list(spec.shape)}
        )
        rows = [(c, mean) for c, name in enumerate(spec.means) for mean in spec.means[name]]
        self._means = torch.tensor([m for _, m in rows], dtype=torch.float64, device=device)
        self._owner = torch.tensor([c for c, _ in rows], device=device)
        sizes = torch.tensor([len(m) for m in spec.means.values()], dtype=torch.float64)
        self._log_size = sizes.log()
        shares = torch.tensor([prior[name] for name in spec.means], dtype=torch.float64)
        self._prior = shares / shares.sum()
        self._variance = spec.variance
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        self.schedule = NoiseSchedule.from_alphas_cumprod((1 - betas).cumprod(0), "epsilon")

    @property
    def denoiser(self) -> nn.Module | None:
        """There is no network."""
        return None

    def with_denoiser(self, module: nn.Module) -> NoReturn:
        """There is nothing to replace."""
        raise ConfigError("generation.backbone.name", "toy", "a network")

    def encode(self, pixels: Tensor) -> Tensor:
        """Samples are pixels."""
        return pixels

    def decode(self, samples: Tensor) -> Tensor:
        """Pixels are samples, clamped to their range."""
        return samples.clamp(-1, 1)

    def condition(self, prompts: Sequence[str], class_names: Sequence[str]) -> list[Conditioning]:
        """One-hot class weights (1, num_classes)."""
        known = self.class_names or ()
        for name in class_names:
            if name not in known:
                raise ConfigError("class_name", name, one_of(known, name))
        eye = torch.eye(len(known), dtype=torch.float64)
        return [{"weights": eye[known.index(name)][None]} for name in class_names]

    def unconditional(self) -> Conditioning:
        """The prior over classes."""
        return {"weights": self._prior[None]}

    def image_condition(self, pixels: Tensor, inputs: ImageInputs) -> ImageConditioning:
        """It has no such inputs."""
        no_image_inputs(inputs)

    def forward(self, x_t: Tensor, timesteps: Tensor, cond: Conditioning) -> Tensor:
        """The exact eps for rows x_t (N, C, h, w)."""
        steps = timesteps.long().cpu()
        return self.exact_eps(x_t, self.schedule.alphas[steps], self.schedule.sigmas[steps], cond)

    def exact_eps(self, x_t: Tensor, alpha: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        """The exact eps at any alpha, sigma (N,): also between the schedule's timesteps."""
        x = x_t.double().flatten(1)
        a, s = alpha.double().to(x)[:, None], sigma.double().to(x)[:, None]
        variance = a**2 * self._variance + s**2
        responsibilities = self._log_joint(x, a, variance, cond).softmax(1)
        mean = a * (responsibilities @ self._means)
        return (s * (x - mean) / variance).view_as(x_t).to(x_t.dtype)

    def class_posterior(self, x_t: Tensor, alpha: float, sigma: float) -> Tensor:
        """p(class | x_t), (N, num_classes): the exact noise-aware classifier."""
        x = x_t.double().flatten(1)
        a = torch.full((len(x), 1), alpha, dtype=torch.float64, device=x.device)
        variance = a**2 * self._variance + sigma**2
        joint = self._log_joint(x, a, variance, self.unconditional()).softmax(1)
        posterior = torch.zeros(len(x), len(self._prior), dtype=torch.float64, device=x.device)
        return posterior.index_add_(1, self._owner, joint)

    def _log_joint(self, x: Tensor, a: Tensor, variance: Tensor, cond: Conditioning) -> Tensor:
        """Unnormalised log of class weight / M times the component's density, (N, components)."""
        squared = ((x[:, None] - a[:, :, None] * self._means) ** 2).sum(2)
        weights = cond["weights"].double().to(x.device).log() - self._log_size.to(x.device)
        return weights.expand(len(x), -1)[:, self._owner] - squared / (2 * variance)


METHOD: Final[type[BackboneSpec]] = Toy
