from pathlib import Path
from typing import Any

import pytest

from generators.backbones.base import Backbone
from generators.backbones.toy import GaussianMixture
from generators.errors import ConfigError
from generators.guidance.soft_perturbed_attention import SoftPerturbedAttention
from generators.guidance_fits.head_hunter import HeadHunterFit, best_of
from generators.models import Models
from generators.steering.attention import self_attentions
from generators.steering.fit_file import open_fit
from tests.support.guidance import classifier_for, materials_for


def test_of_an_additive_objective_the_true_best_are_taken() -> None:
    scores = {"a:0": 0.1, "a:1": 0.5, "b:0": -1.0, "b:1": 0.5, "c:0": 0.7}
    assert best_of(scores, 3) == ["c:0", "a:1", "b:1"]
    assert best_of(scores, 9) == ["c:0", "a:1", "b:1", "a:0", "b:0"]


def test_each_round_adds_the_heads_that_score_best_beside_the_chosen(
    tiny_unet: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores that are known: the first round's best, then what is best beside it."""
    heads = HeadHunterFit(classifier="")._heads(Models(tiny_unet))
    worth = {head: float(index) for index, head in enumerate(heads)}
    asked: list[tuple[str, ...]] = []

    def score(self: HeadHunterFit, materials: Any, chosen: Any) -> float:
        asked.append(tuple(chosen))
        return sum(worth[head] for head in chosen)

    monkeypatch.setattr(HeadHunterFit, "_score", score)
    fit = HeadHunterFit(classifier="", rounds=2, heads_per_round=2)
    steps = list(fit.fit(materials_for(tiny_unet), tmp_path / "x"))
    count = len(heads)
    assert len(asked) == count + count - 2 == steps[-1].total == steps[-1].done
    assert asked[count][:2] == (heads[-1], heads[-2])
    found = open_fit(Models(tiny_unet), str(tmp_path / "x"), "head_hunter", "").details["heads"]
    assert found == [heads[-1], heads[-2], heads[-3], heads[-4]]


def test_a_search_is_used(tiny_unet: Backbone, tmp_path: Path) -> None:
    path = classifier_for(tiny_unet, tmp_path)
    fit = HeadHunterFit(classifier=path, num_images=3, heads_per_round=1, layers=("mid_block",))
    materials = materials_for(tiny_unet)
    fit.check(materials)
    again = [tmp_path / "one", tmp_path / "two"]
    for file in again:
        assert [step.done for step in fit.fit(materials, file)] == [1, 2]
    assert again[0].read_bytes() == again[1].read_bytes()
    guidance = SoftPerturbedAttention(selection=str(again[0]))
    guidance.check(Models(tiny_unet))
    ((layer, shares),) = guidance._strengths(Models(tiny_unet)).items()
    assert layer == "mid_block.attentions.0"
    assert sorted(shares) == [0.0, 0.5]
    assert len(shares) == self_attentions(tiny_unet)[layer]


def test_needs_attention(mixture: GaussianMixture) -> None:
    with pytest.raises(ConfigError, match="no self-attention"):
        HeadHunterFit(classifier="").check(materials_for(mixture))
