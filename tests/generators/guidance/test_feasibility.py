from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from generators.backbones.base import Backbone
from generators.backbones.toy import GaussianMixture
from generators.engine import Engine
from generators.errors import ConfigError
from generators.guidance.feasibility import Feasibility
from generators.models import Models
from generators.records import GenerationRequest
from generators.registry import MethodSpec
from generators.render import Job, Renderer
from generators.steering.energies import Violation
from generators.steering.guide import open_guide
from tests.support.guidance import Laws, Params, classifier_for, with_exact_classifier

Make = Callable[..., GenerationRequest]


def grid_for(backbone: Backbone, folder: Path) -> list[Params]:
    path = classifier_for(backbone, folder)
    return [
        {"classifier": path, "min_probability": 0.45},
        {"classifier": path, "min_probability": 0.3, "guidance_scale": 0.5},
        {"classifier": path, "similarity": [0.99, 1.0]},
    ]


LAWS = Laws(
    grid=grid_for,
    off=lambda backbone, folder: {
        "classifier": classifier_for(backbone, folder),
        "min_probability": 0.01,
        "guidance_scale": 0.0,
    },
)


def test_weight_is_nothing_inside_and_capped_outside() -> None:
    guidance = Feasibility(classifier="", min_probability=0.5, temperature=2.0, cap=10.0)
    assert guidance.weight(0.0) == 0
    assert guidance.weight(0.5) == pytest.approx(2.718281828 - 1)
    assert guidance.weight(1e9) == pytest.approx(10.0)


def test_violations_on_points_worked_out_by_hand(mixture: GaussianMixture) -> None:
    """Two-dimensional features are the point itself: cosines are of angles."""
    guide = open_guide(with_exact_classifier(mixture), "exact", "")
    x = torch.tensor([[1.0, 0.3], [-0.9, 0.0], [0.0, 1.0]]).view(3, 1, 1, 2)
    log_probability = guide.logits(x).log_softmax(1)
    inputs = {
        "index": torch.tensor([1, 1, 2]),
        "least_log_probability": torch.tensor([0.5, 0.5, 1e-9]).log(),
        "low": torch.tensor([-1.0, -1.0, 0.9]),
        "high": torch.tensor([1.0, 1.0, 1.0]),
        "features": torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]),
    }
    found = Violation(guide)(x, torch.zeros(3), inputs)
    assert float(found[0]) == 0
    assert float(found[1]) == pytest.approx(
        float(torch.tensor(0.5).log() - log_probability[1, 1]), rel=1e-4
    )
    assert float(found[2]) == pytest.approx(90.0, rel=1e-3)


def kept(mixture: GaussianMixture, guidance: Params, make_request: Make) -> tuple[int, Params]:
    """How many of 200 free samples of all classes are kept, and the worst of them."""
    models = with_exact_classifier(mixture)
    renderer = Renderer(mixture)
    renderer.models = models
    spec = MethodSpec(name="together", params={"methods": [guidance]})
    requests = [make_request(seed=s, num_inference_steps=25, guidance=spec) for s in range(200)]
    cond, source = models.unconditional(), torch.zeros(mixture.sample_shape)
    jobs = [
        (index, renderer.program(Job(request=request, source=source, cond=cond)))
        for index, request in enumerate(requests)
    ]
    done = list(Engine(mixture, 128).run(jobs))
    reasons = {end.rejected.reason for end in done if end.rejected}
    samples = torch.stack([end.value for end in done if end.value is not None])
    probability = open_guide(models, "exact", "").logits(samples).softmax(1)
    return len(samples), {"reasons": reasons, "least": float(probability[:, 1].min())}


def test_every_image_that_is_kept_meets_the_bound(
    mixture: GaussianMixture, make_request: Make
) -> None:
    """Points of any class, asked to be `right` with a probability of 0.6 at least."""
    own = {"name": "feasibility", "classifier": "exact", "min_probability": 0.6}
    few, worst = kept(mixture, {**own, "guidance_scale": 0.02}, make_request)
    many, best = kept(mixture, {**own, "guidance_scale": 0.6}, make_request)
    assert worst["reasons"] == {"infeasible"}
    assert best["least"] >= 0.6 - 1e-3
    assert few == pytest.approx(70, abs=25)
    assert many > 1.5 * few


def test_every_image_that_is_kept_is_as_like_its_source_as_asked(
    mixture: GaussianMixture, make_request: Make
) -> None:
    """Features of points are the points: a band of cosines is a sector around the source."""
    models = with_exact_classifier(mixture)
    renderer = Renderer(mixture)
    renderer.models = models
    own = {"name": "feasibility", "classifier": "exact", "similarity": [0.8, 0.99]}
    source = torch.tensor([0.9, 0.7]).view(mixture.sample_shape)

    def cosines(scale: float) -> torch.Tensor:
        params = {"methods": [{**own, "guidance_scale": scale}]}
        spec = MethodSpec(name="together", params=params)
        jobs = [
            Job(request=request, source=source, cond=models.unconditional())
            for request in (
                make_request(seed=s, num_inference_steps=25, image_guidance=20, guidance=spec)
                for s in range(120)
            )
        ]
        programs = [(index, renderer.program(job)) for index, job in enumerate(jobs)]
        done = Engine(mixture, 128).run(programs)
        samples = torch.stack([end.value.flatten() for end in done if end.value is not None])
        return torch.cosine_similarity(samples.clamp(-1, 1), source.flatten()[None], dim=1)

    plain, guided = cosines(0.01), cosines(0.5)
    for found in (plain, guided):
        assert float(found.min()) >= 0.8 - 1e-4
        assert float(found.max()) <= 0.99 + 1e-4
    assert len(guided) > 1.3 * len(plain)


def test_a_constraint_is_needed_and_a_band_has_two_ends(
    tiny_unet: Backbone, tmp_path: Path
) -> None:
    path, models = classifier_for(tiny_unet, tmp_path), Models(tiny_unet)
    with pytest.raises(ConfigError, match="a min_probability, a similarity, or both"):
        Feasibility(classifier=path).check(models)
    with pytest.raises(ConfigError, match=r"similarity: \[0.9, 0.5\]"):
        Feasibility(classifier=path, similarity=(0.9, 0.5)).check(models)
