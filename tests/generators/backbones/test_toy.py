"""The mixture is the oracle of other tests, so it is itself held against its density."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from generators.backbones.toy import GaussianMixture, Toy
from generators.engine import Finished
from generators.errors import ConfigError
from generators.records import GenerationRequest
from generators.registry import MethodSpec

Make = Callable[..., GenerationRequest]
Render = Callable[..., list[Finished[int, Tensor]]]
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


def samples(mixture: GaussianMixture, make: Make, render: Render, scale: float) -> Tensor:
    guidance = MethodSpec(name="cfg", params={"guidance_scale": scale})
    requests = [make(guidance=guidance, num_inference_steps=50, seed=s) for s in range(2000)]
    done = render(mixture, requests, max_batch_size=2000)
    return torch.stack([end.value for end in done])


def test_unconditional_sampling_gives_back_the_prior_of_a_class(
    mixture: GaussianMixture, make_request: Make, render: Render
) -> None:
    made = samples(mixture, make_request, render, 0.0)
    mass = mixture.class_posterior(made, 1.0, 0.0).mean(0)

    assert mass.tolist() == pytest.approx([0.6, 0.35, 0.05], abs=0.04)


def test_guidance_saturates_the_mass_and_then_shrinks_the_spread(
    mixture: GaussianMixture, make_request: Make, render: Render
) -> None:
    """Total variance .190, .156 for scales 1, 5: the reference's figures, +-10 %."""
    one, five = (samples(mixture, make_request, render, scale) for scale in (1.0, 5.0))

    for made in (one, five):
        assert float(mixture.class_posterior(made, 1.0, 0.0).mean(0)[1]) > 0.98
    assert float(one.var(0).sum()) == pytest.approx(0.190, rel=0.1)
    assert float(five.var(0).sum()) == pytest.approx(0.156, rel=0.1)


def test_wrong_mixtures_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"means\.a: .* mean of 2 values"):
        Toy(means={"a": [[1.0]]}).load("cpu")
    with pytest.raises(ConfigError, match="at least one class"):
        Toy(means={}).load("cpu")
    for prior in ({"a": 1.0}, {"a": 1.0, "b": 0.0}, {"a": 0.5, "c": 0.5}):
        with pytest.raises(ConfigError, match="prior"):
            Toy(means={"a": [[0.0, 0.0]], "b": [[1.0, 0.0]]}, prior=prior).load("cpu")
    backbone = Toy(means={"aa": [[0.0, 0.0]]}).load("cpu")
    with pytest.raises(ConfigError, match="did you mean 'aa'"):
        backbone.condition([""], ["ab"])
