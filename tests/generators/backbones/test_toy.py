"""The mixture is the oracle of other tests, so it is itself held against its density."""

from typing import Any

import pytest
import torch
from torch import Tensor

from generators.backbones.toy import GaussianMixture, Toy
from generators.errors import ConfigError
from generators.guidance.base import Target
from generators.guidance.cfg import ClassifierFreeGuidance
from generators.models import Models
from generators.program import ModelCall, Prediction
from generators.samplers.ddim import Ddim

LEVELS = [(0.999, 0.045), (0.8, 0.6), (0.3, 0.954)]
CLASSES = ("left", "right", "rare")


def points(count: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    draws = torch.randn(count, 1, 1, 2, generator=generator, dtype=torch.float64)
    return 1.2 * draws


def eps(mixture: GaussianMixture, x: Tensor, alpha: float, sigma: float, cond: Any) -> Tensor:
    rows = torch.ones(len(x), dtype=torch.float64)
    return mixture.exact_eps(x, rows * alpha, rows * sigma, cond)


@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
def test_unconditional_eps_is_the_posterior_mean_of_the_conditional_ones(
    mixture: GaussianMixture, alpha: float, sigma: float
) -> None:
    x = points()
    posterior = mixture.class_posterior(x, alpha, sigma)
    conds = mixture.condition([""] * 3, CLASSES)
    by_class = torch.stack([eps(mixture, x, alpha, sigma, cond) for cond in conds], dim=1)

    mean = (posterior.view(-1, 3, 1, 1, 1) * by_class).sum(1)
    torch.testing.assert_close(eps(mixture, x, alpha, sigma, mixture.unconditional()), mean)
    torch.testing.assert_close(posterior.sum(1), torch.ones(len(x), dtype=torch.float64))


@pytest.mark.parametrize(("alpha", "sigma"), LEVELS)
@pytest.mark.parametrize("name", ["left", "rare", None])
def test_eps_is_the_gradient_of_the_log_density(
    mixture: GaussianMixture, alpha: float, sigma: float, name: str | None
) -> None:
    """eps = -sigma grad log p_t, the density written out independently with torch's own."""
    spec = {
        "left": ([[-1.0, -0.6], [-0.8, 0.6]], 0.6),
        "right": ([[0.9, 0.7], [1.1, -0.1]], 0.35),
        "rare": ([[0.1, 1.2], [0.2, -1.2]], 0.05),
    }
    chosen = [spec[name]] if name else list(spec.values())
    means = torch.tensor([m for ms, _ in chosen for m in ms], dtype=torch.float64)
    weights = torch.tensor([share / 2 for _, share in chosen for _ in range(2)])
    variance = alpha**2 * 0.02 + sigma**2
    density = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(weights.double()),
        torch.distributions.MultivariateNormal(
            alpha * means, (variance * torch.eye(2, dtype=torch.float64)).expand(len(means), 2, 2)
        ),
    )
    x = points().requires_grad_()
    (score,) = torch.autograd.grad(density.log_prob(x.flatten(1)).sum(), x)

    cond = mixture.condition([""], [name])[0] if name else mixture.unconditional()
    torch.testing.assert_close(eps(mixture, x.detach(), alpha, sigma, cond), -sigma * score)


def test_classes_of_unequal_size_keep_their_prior() -> None:
    """One component against three: each class still has its own half of the mass."""
    means = {"one": [[0.0, 1.0]], "three": [[0.0, -1.0], [0.0, -1.0], [0.0, -1.0]]}
    backbone = Toy(means=means).load("cpu")
    assert isinstance(backbone, GaussianMixture)

    posterior = backbone.class_posterior(torch.zeros(1, 1, 1, 2), 0.5, 0.866)

    assert posterior[0].tolist() == pytest.approx([0.5, 0.5])


def samples(mixture: GaussianMixture, scale: float, count: int = 4000) -> Tensor:
    """DDIM with guidance on the exact scores, 50 steps; all rows in one hand-driven program."""
    yes, no = mixture.condition([""], ["right"])[0], mixture.unconditional()
    models = Models(mixture)
    target = Target(cond=yes, uncond=no, label=1, source=None, models=models)
    denoise = ClassifierFreeGuidance(guidance_scale=scale).denoiser(target)
    generator = torch.Generator().manual_seed(7)
    start = torch.randn(count, 1, 1, 2, generator=generator)
    program = Ddim().sample(denoise, start, mixture.schedule.levels(50), generator)
    answers = None
    while True:
        try:
            calls = next(program) if answers is None else program.send(answers)
        except StopIteration as stop:
            made: Tensor = stop.value
            return made
        answers = tuple(exact(mixture, call) for call in calls)


def exact(mixture: GaussianMixture, call: ModelCall) -> Prediction:
    at = call.level
    noise = mixture.forward(call.x_t, torch.full((len(call.x_t),), at.timestep), call.cond)
    return Prediction(x_0=(call.x_t - at.sigma * noise) / at.alpha, eps=noise)


def test_unconditional_sampling_gives_back_the_prior(mixture: GaussianMixture) -> None:
    mass = mixture.class_posterior(samples(mixture, 0.0), 1.0, 0.0).mean(0)

    assert mass.tolist() == pytest.approx([0.6, 0.35, 0.05], abs=0.03)


def test_guidance_saturates_the_mass_and_then_shrinks_the_spread(mixture: GaussianMixture) -> None:
    """Total variance for w = 0, 1, 2, 5, 10: the reference's figures, +-10 %."""
    figures = {0.0: 1.198, 1.0: 0.190, 2.0: 0.172, 5.0: 0.156, 10.0: 0.141}
    made = {scale: samples(mixture, scale) for scale in figures}
    variances = {scale: float(rows.flatten(1).var(0).sum()) for scale, rows in made.items()}

    for scale, figure in figures.items():
        assert variances[scale] == pytest.approx(figure, rel=0.1)
    assert sorted(variances, key=lambda scale: -variances[scale]) == list(figures)
    for scale in (1.0, 2.0, 5.0, 10.0):
        assert float(mixture.class_posterior(made[scale], 1.0, 0.0).mean(0)[1]) > 0.98


def test_wrong_mixtures_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"means\.a: .* mean of 2 values"):
        Toy(means={"a": [[1.0]]}).load("cpu")
    with pytest.raises(ConfigError, match="at least one class"):
        Toy(means={}).load("cpu")
    for prior in ({"a": 1.0}, {"a": 1.0, "b": 0.0}, {"a": 0.5, "c": 0.5}):
        with pytest.raises(ConfigError, match="prior"):
            Toy(means={"a": [[0.0, 0.0]], "b": [[1.0, 0.0]]}, prior=prior).load("cpu")
    backbone = Toy(means={"left": [[0.0, 0.0]]}).load("cpu")
    with pytest.raises(ConfigError, match="did you mean 'left'"):
        backbone.condition([""], ["lft"])
