import pytest
import torch

from generators.backbones.toy import GaussianMixture
from generators.guidance.adaptive import AdaptiveGuidance
from generators.guidance.cfg import ClassifierFreeGuidance
from tests.support.beds import run_bed, values
from tests.support.guidance import Laws, given

LAWS = Laws(
    grid=given(
        {"guidance_scale": 2.0},
        {"guidance_scale": 4.0, "threshold": 0.9, "space": "x_0"},
        {"guidance_scale": 3.0, "threshold": 1.5},
    ),
    off=lambda *_: {"guidance_scale": 1.0},
)


def test_a_threshold_above_one_is_cfg_bit_for_bit(mixture: GaussianMixture) -> None:
    ours = run_bed(mixture, AdaptiveGuidance(guidance_scale=3, threshold=1.01), count=20, steps=20)
    cfg = run_bed(mixture, ClassifierFreeGuidance(guidance_scale=3), count=20, steps=20)
    assert torch.equal(values(ours), values(cfg))
    assert {done.num_model_calls for done in ours} == {40}


def test_a_threshold_that_is_reached_at_once_guides_one_step(mixture: GaussianMixture) -> None:
    guidance = AdaptiveGuidance(guidance_scale=3, threshold=-1, warmup=0)
    ours = run_bed(mixture, guidance, count=20, steps=20)
    plain = run_bed(mixture, ClassifierFreeGuidance(guidance_scale=1), count=20, steps=20)
    assert {done.num_model_calls for done in ours} == {21}
    assert torch.equal(values(ours), values(plain))  # the step that stops it is not guided


def test_the_later_it_stops_the_nearer_it_ends_to_cfg(mixture: GaussianMixture) -> None:
    """Reference, w 7.5, 50 steps, stop at 5, 10, 20, 30: RMSE .219, .173, .069, .013."""
    cfg = values(run_bed(mixture, ClassifierFreeGuidance(guidance_scale=7.5), count=300))
    errors = []
    for step in (5, 10, 20, 30):
        guidance = AdaptiveGuidance(guidance_scale=7.5, threshold=-1, warmup=step / 50)
        done = run_bed(mixture, guidance, count=300)
        assert {each.num_model_calls for each in done} == {50 + step + 1}
        errors.append(float((values(done) - cfg).square().mean().sqrt()))
    assert errors == sorted(errors, reverse=True)
    assert errors == pytest.approx([0.219, 0.173, 0.069, 0.013], rel=0.35)


def test_it_saves_evaluations_by_itself(mixture: GaussianMixture) -> None:
    cfg = values(run_bed(mixture, ClassifierFreeGuidance(guidance_scale=3), count=300))
    done = run_bed(mixture, AdaptiveGuidance(guidance_scale=3, threshold=0.999), count=300)
    spent = sum(each.num_model_calls for each in done) / len(done)
    assert 55 < spent < 85
    assert len({each.num_model_calls for each in done}) > 3  # each request stops by itself
    assert float((values(done) - cfg).square().mean().sqrt()) < 0.1
