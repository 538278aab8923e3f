from pathlib import Path

import pytest
import torch
from torch import nn

from generators.backbones.base import Backbone
from generators.backbones.stable_diffusion import StableDiffusion
from generators.backbones.toy import GaussianMixture
from generators.classifier_file import ClassifierInfo, save_classifier
from generators.classifiers import create_classifier
from generators.engine import Engine
from generators.errors import CheckpointError, ConfigError
from generators.guidance.elucidated import Elucidated
from generators.guidance.together import Together
from generators.models import Models
from generators.registry import JsonValue
from generators.steering.energies import TemperedLogProbability
from generators.steering.guide import Guide, check_guide, open_guide
from generators.steering.softplus import softened
from tests.support.beds import mass, run_bed, values
from tests.support.guidance import (
    Laws,
    Params,
    classifier_for,
    target_of,
    with_exact_classifier,
)


def grid_for(backbone: Backbone, folder: Path) -> list[Params]:
    path = classifier_for(backbone, folder)
    return [
        {"classifier": path, "guidance_scale": 5.0},
        {"classifier": path, "guidance_scale": 9.0, "softplus_beta": None, "sine": 0.0},
        {"classifier": path, "guidance_scale": 7.0, "margin_discount": 0.0},
    ]


LAWS = Laws(
    grid=grid_for,
    off=lambda backbone, folder: {
        "classifier": classifier_for(backbone, folder),
        "guidance_scale": 0.0,
    },
)


def on_unconditional(**params: JsonValue) -> Together:
    own = {"name": "elucidated", "classifier": "exact", "softplus_beta": None, **params}
    return Together(methods=[{"name": "cfg", "guidance_scale": 0.0}, own])


def test_the_shift_is_sigma_times_the_gradient_of_the_tempered_logits(
    mixture: GaussianMixture,
) -> None:
    models = with_exact_classifier(mixture)
    target = target_of(mixture, 1, models=models)
    guidance = Elucidated(
        classifier="exact",
        guidance_scale=0.7,
        joint_temperature=1.5,
        margin_discount=0.4,
        softplus_beta=None,
        sine=0.0,
    )
    x_t, level = torch.tensor([[[0.3, -0.6]]]), mixture.schedule.levels(10)[5]
    engine = Engine(mixture, 4)
    plain, ours = (
        next(iter(engine.run([(0, denoise(x_t, level))]))).value
        for denoise in (target.conditional, guidance.denoiser(target))
    )
    assert plain is not None
    assert ours is not None
    x_0 = plain.x_0.clamp(-1, 1).clone().requires_grad_()
    logits = open_guide(models, "exact", "").network(x_0[None])[0]
    objective = 1.5 * logits[1] - (0.6 * logits).logsumexp(0)
    (gradient,) = torch.autograd.grad(objective, x_0)
    torch.testing.assert_close(ours.eps, plain.eps - level.sigma * 0.7 * gradient)
    assert torch.allclose(level.alpha * ours.x_0 + level.sigma * ours.eps, x_t, atol=1e-5)


def test_mass_moves_as_in_the_reference(mixture: GaussianMixture) -> None:
    """Reference, unconditional base, DDPM: .355 (off), .982 (s 1), .998 (tau_2 .5), 1.0 (sine)."""
    found = []
    for params in (
        {"guidance_scale": 0.0},
        {"guidance_scale": 1.0, "margin_discount": 1.0, "sine": 0.0},
        {"guidance_scale": 1.0, "sine": 0.0},
        {"guidance_scale": 1.0},
    ):
        done = run_bed(
            mixture,
            on_unconditional(**params),
            count=200,
            eta=1.0,
            models=with_exact_classifier(mixture),
        )
        found.append(mass(mixture, values(done)))
    assert found[0] == pytest.approx(0.355, abs=0.08)
    assert found[1:] == pytest.approx([0.982, 0.998, 1.0], abs=0.04)
    assert found == sorted(found)


def test_temperatures_do_what_the_paper_says(mixture: GaussianMixture) -> None:
    """tau_2 = 0 is tau_1 times the joint logit; tau_1 = tau_2 = 1 the log-probability."""
    guide = open_guide(with_exact_classifier(mixture), "exact", "")
    energy, x = TemperedLogProbability(guide), torch.randn(5, 1, 1, 2)
    index, ones = torch.tensor([0, 1, 2, 1, 0]), torch.ones(5)
    logits = guide.logits(x)
    own = logits.gather(1, index[:, None])[:, 0]

    def at(joint: float, conditional: float) -> torch.Tensor:
        inputs = {"index": index, "joint": joint * ones, "conditional": conditional * ones}
        return energy(x, ones, inputs)

    torch.testing.assert_close(at(2.0, 0.0), 2 * own - torch.tensor(3.0).log())
    expected = logits.log_softmax(1).gather(1, index[:, None])[:, 0]
    torch.testing.assert_close(at(1.0, 1.0), expected)


def test_softplus_nears_relu_and_wakes_dead_units(tiny_unet: Backbone, tmp_path: Path) -> None:
    models = Models(tiny_unet)
    guide = open_guide(models, classifier_for(tiny_unet, tmp_path), "")
    x = torch.rand(4, 3, 8, 8) * 2 - 1
    errors = [
        float((softened(models, guide, beta).logits(x) - guide.logits(x)).abs().max())
        for beta in (3, 30, 300, 3000)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3 < errors[0]
    assert softened(models, guide, 3) is softened(models, guide, 3)
    kinds = [type(m) for m in softened(models, guide, 3).network.modules()]
    assert nn.ReLU not in kinds
    assert kinds.count(nn.Softplus) == 3
    assert nn.ReLU in [type(m) for m in guide.network.modules()]  # the original is left alone
    shared = dict(guide.network.named_parameters())
    for name, parameter in softened(models, guide, 3).network.named_parameters():
        assert parameter is shared[name]


def test_off_the_shelf_timm_needs_its_classes(tiny_unet: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    network = create_classifier("small_cnn", 2, 3)
    info = ClassifierInfo(
        model="small_cnn", class_names=("left", "top"), channels=3, image_size=(8, 8)
    )
    save_classifier(path, network, info)
    with pytest.raises(ConfigError, match=r"guidance\.classifier: 'cat' .* knows one 'cat'"):
        Elucidated(classifier=str(path)).check(Models(tiny_unet))


def test_classes_are_found_among_imagenets_synonyms(tiny_unet: Backbone) -> None:
    from timm.data import ImageNetInfo

    names = tuple(ImageNetInfo().label_descriptions())
    info = ClassifierInfo(model="x", class_names=names, channels=3, image_size=(8, 8))
    guide = Guide(network=nn.Identity(), info=info, backbone=tiny_unet)
    assert guide.index("tench", "") == guide.index("Tinca_tinca", "") == 0
    assert guide.index(names[207], "") == guide.index("golden retriever", "") == 207
    with pytest.raises(ConfigError, match="knows one 'crane'"):  # a bird and a machine
        guide.index("crane", "")
    with pytest.raises(ConfigError, match="knows one 'cow shed'"):
        guide.index("cow shed", "")


class Steps(nn.Module):
    """A network whose outputs are counts: no gradient reaches its inputs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([(x > k).float().mean((1, 2, 3)) for k in (-0.5, 0, 0.5)], 1)


def test_a_classifier_without_gradients_is_refused(mixture: GaussianMixture) -> None:
    models = with_exact_classifier(mixture)
    guide = open_guide(models, "exact", "")
    object.__setattr__(guide, "network", Steps())
    with pytest.raises(ConfigError, match="gradients reach its images"):
        check_guide("exact", models, "generation.guidance.classifier")
    check_guide("exact", models, "generation.guidance.classifier", differentiable=False)


def test_in_latent_space_the_gradient_comes_through_the_decoder(
    tiny_sd_folder: Path, tmp_path: Path
) -> None:
    """x_0 are latents: the classifier sees what the autoencoder makes of them."""
    backbone = StableDiffusion(path=str(tiny_sd_folder)).load("cpu")
    network = create_classifier("small_cnn", 2, 3, seed=1)
    info = ClassifierInfo(
        model="small_cnn", class_names=("cat", "dog"), channels=3, image_size=(32, 32)
    )
    path = tmp_path / "guide.safetensors"
    save_classifier(path, network, info)
    models = Models(backbone, ["cat", "dog"])
    guidance = Elucidated(classifier=str(path), guidance_scale=2.0, sine=0.0, softplus_beta=None)
    guidance.check(models)
    target = target_of(backbone, 1, models=models)
    engine, level = Engine(backbone, 4), backbone.schedule.levels(4)[2]
    x_t = torch.randn(backbone.sample_shape, generator=torch.Generator().manual_seed(4))
    programs = [(0, target.conditional(x_t, level)), (1, guidance.denoiser(target)(x_t, level))]
    found = {end.key: end.value for end in engine.run(programs)}
    plain, ours = found[0], found[1]
    assert plain is not None
    assert ours is not None
    x_0 = plain.x_0.clone().requires_grad_()
    logits = open_guide(models, str(path), "").network(backbone.decode(x_0[None]))[0]
    objective = logits[1] - (0.5 * logits).logsumexp(0)
    (gradient,) = torch.autograd.grad(objective, x_0)
    torch.testing.assert_close(
        ours.eps, plain.eps - level.sigma * 2 * gradient, atol=1e-5, rtol=1e-4
    )
    assert float(gradient.abs().max()) > 1e-6
    assert engine.stats.num_reading_batches == 1


def test_a_batch_of_requests_is_one_backward(mixture: GaussianMixture) -> None:
    models = with_exact_classifier(mixture)
    guidance, level = Elucidated(classifier="exact"), mixture.schedule.levels(10)[5]
    engine = Engine(mixture, 64)
    programs = [
        (index, guidance.denoiser(target_of(mixture, index % 3, models=models))(x_t, level))
        for index, x_t in enumerate(torch.randn(50, *mixture.sample_shape))
    ]
    assert len(list(engine.run(programs))) == 50
    assert (engine.stats.num_readings, engine.stats.num_reading_batches) == (50, 1)


def test_a_missing_file_is_named_with_its_field(mixture: GaussianMixture) -> None:
    with pytest.raises(CheckpointError, match=r"guidance\.classifier: no classifier file nofile"):
        Elucidated(classifier="nofile").check(Models(mixture))
