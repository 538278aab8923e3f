from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from generators.backbones.base import Backbone
from generators.backbones.toy import GaussianMixture
from generators.classifiers import create_classifier
from generators.errors import ConfigError
from generators.guidance.plug_and_play import PlugAndPlay, open_experts
from generators.guidance.together import Together
from generators.guidance_fits.plug_and_play import PlugAndPlayFit, expert_of
from generators.models import Models
from generators.steering.experts import make_expert, trained_state
from generators.steering.guide import open_guide
from generators.steering.noisy import noise_share
from tests.support.beds import mass, run_bed, values
from tests.support.guidance import Laws, Params, classifier_for, fitted, materials_for

QUICK = {"num_experts": 2, "rank": 2, "steps": 2, "num_images": 6}


def grid_for(backbone: Backbone, folder: Path) -> list[Params]:
    path = classifier_for(backbone, folder)
    experts = fitted("plug_and_play", backbone, folder, classifier=path, **QUICK)
    return [
        {"classifier": path, "experts": experts, "guidance_scale": scale} for scale in (5.0, 9.0)
    ]


LAWS = Laws(
    grid=grid_for,
    off=lambda backbone, folder: {**grid_for(backbone, folder)[0], "guidance_scale": 0},
)


@pytest.mark.parametrize("model", ["small_cnn", "test_resnet", "test_vit"])
def test_an_untrained_expert_is_the_classifier(model: str) -> None:
    side = 160 if model == "test_vit" else 16
    network = create_classifier(model, 3, 3, image_size=(side, side)).eval()
    expert = make_expert(network, 4, 8.0).eval()
    x = torch.randn(2, 3, side, side)
    with torch.no_grad():
        assert torch.equal(network(x), expert(x))
    trained = [name for name, each in expert.named_parameters() if each.requires_grad]
    assert any("lora_A" in name for name in trained)
    assert not any(name.startswith(("head.", "head.fc", "fc.")) for name in trained)
    assert len(trained_state(expert)) < len(expert.state_dict())


def test_every_level_has_one_expert(mixture: GaussianMixture) -> None:
    levels = mixture.schedule.levels(1000)[:-1]
    found = [expert_of(level, 5) for level in levels]
    assert found == sorted(found, reverse=True)
    assert set(found) == set(range(5))
    edges = [noise_share(level) for level in levels]
    assert all(n / 5 <= share <= (n + 1) / 5 for n, share in zip(found, edges, strict=True))


def train_classifier(mixture: GaussianMixture, folder: Path) -> str:
    """A small network that knows clean points."""
    from generators.classifier_file import load_classifier, save_classifier
    from tests.support.guidance import mixture_points

    path = Path(classifier_for(mixture, folder))
    network, info = load_classifier(path)
    draw = torch.Generator().manual_seed(1)
    labels = torch.arange(300) % 3
    points = mixture_points(mixture, labels, draw)
    inputs = functional.interpolate((points.clamp(-1, 1) + 1) / 2, (8, 8), mode="bilinear")
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    network.train()
    for _ in range(80):
        loss = functional.cross_entropy(network(info.normalization.apply(inputs)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    save_classifier(path, network, info)
    return str(path)


@pytest.fixture(scope="module")
def trained(mixture: GaussianMixture, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("experts")
    classifier = train_classifier(mixture, folder)
    path = folder / "experts.safetensors"
    fit = PlugAndPlayFit(classifier=classifier, num_experts=3, rank=8, steps=150, num_images=300)
    materials = materials_for(mixture, Models(mixture), num_inference_steps=15)
    fit.check(materials)
    losses = [step.loss for step in fit.fit(materials, path)]
    return classifier, str(path), losses


def test_experts_see_through_noise_what_the_classifier_does_not(
    mixture: GaussianMixture, trained: Any
) -> None:
    """Noisy cross-entropy of the exact mixture's labels, in the middle and the top range."""
    from tests.support.guidance import mixture_points

    classifier, path, _ = trained
    models = Models(mixture)
    experts, plain = open_experts(models, classifier, path), open_guide(models, classifier, "")
    draw = torch.Generator().manual_seed(5)
    labels = torch.arange(600) % 3
    points = mixture_points(mixture, labels, draw)
    for share in (0.5, 0.8):
        levels = mixture.schedule.levels(250)[:-1]
        level = min(levels, key=lambda each: abs(noise_share(each) - share))
        eps = torch.randn(points.shape, generator=draw)
        x_t = level.alpha * points + level.sigma * eps
        expert = experts[expert_of(level, 3)]
        ours = float(functional.cross_entropy(expert.logits(x_t), labels))
        clean = float(functional.cross_entropy(plain.logits(x_t), labels))
        assert ours < clean


def test_guidance_moves_mass(mixture: GaussianMixture, trained: Any) -> None:
    classifier, path, _ = trained

    def bed(scale: float) -> float:
        own = {
            "name": "plug_and_play",
            "classifier": classifier,
            "experts": path,
            "guidance_scale": scale,
        }
        guidance = Together(methods=[{"name": "cfg", "guidance_scale": 0.0}, own])
        return mass(mixture, values(run_bed(mixture, guidance, count=200, eta=1.0)))

    found = [bed(scale) for scale in (0.0, 1.0, 3.0)]
    assert found == sorted(found)
    assert found[2] > found[0] + 0.2


def test_experts_belong_to_a_classifier(tiny_unet: Backbone, tmp_path: Path) -> None:
    path = classifier_for(tiny_unet, tmp_path)
    experts = fitted("plug_and_play", tiny_unet, tmp_path, classifier=path, **QUICK)
    from generators.classifier_file import ClassifierInfo, save_classifier

    other = tmp_path / "other.safetensors"
    names = (*(tiny_unet.class_names or ()), "dog")
    info = ClassifierInfo(model="small_cnn", class_names=names, channels=3, image_size=(8, 8))
    save_classifier(other, create_classifier("small_cnn", 4, 3), info)
    with pytest.raises(ConfigError, match="the classifier of the experts"):
        PlugAndPlay(classifier=str(other), experts=experts).check(Models(tiny_unet))
