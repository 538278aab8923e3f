import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from generators.backbones.base import Backbone
from generators.backbones.toy import GaussianMixture
from generators.engine import Engine
from generators.errors import ConfigError
from generators.guidance.diffusers import (
    CLEAN,
    FLAT,
    SLOTS,
    DiffusersGuider,
    guider_classes,
    name_of,
    prepare,
)
from generators.models import Models
from generators.prediction import converter
from generators.registry import MethodSpec, build
from generators.samplers.ddim import Ddim
from generators.steering.sharing import sharing_copy
from tests.support.guidance import Laws, Params, given, target_of

MIDDLE = {"fqn": "mid_block.attentions", "indices": [0]}
SETTINGS: dict[str, Params] = {
    "AdaptiveProjectedGuidance": {
        "guidance_scale": 4.0,
        "adaptive_projected_guidance_momentum": -0.5,
    },
    "AdaptiveProjectedMixGuidance": {"adaptive_projected_guidance_start_step": 2},
    "AutoGuidance": {
        "guidance_scale": 3.0,
        "auto_guidance_config": {**MIDDLE, "skip_attention_scores": True, "skip_attention": False},
    },
    "ClassifierFreeGuidance": {"guidance_scale": 3.0, "guidance_rescale": 0.5},
    "ClassifierFreeZeroStarGuidance": {"guidance_scale": 3.0},
    "FrequencyDecoupledGuidance": {"guidance_scales": [4.0, 2.0]},
    "LTX2Guidance": {"guidance_scale": 3.0, "guidance_rescale": 0.3},
    "MagnitudeAwareGuidance": {"guidance_scale": 4.0},
    "PerturbedAttentionGuidance": {
        "guidance_scale": 2.0,
        "perturbed_guidance_config": {
            **MIDDLE,
            "skip_attention": False,
            "skip_attention_scores": True,
            "skip_ff": False,
        },
        "perturbed_guidance_stop": 1.0,
    },
    "SkipLayerGuidance": {
        "guidance_scale": 2.0,
        "skip_layer_config": {
            **MIDDLE,
            "skip_attention": False,
            "skip_attention_scores": True,
            "skip_ff": False,
        },
        "skip_layer_guidance_stop": 1.0,
    },
    "SmoothedEnergyGuidance": {
        "guidance_scale": 2.0,
        "seg_guidance_config": [dict(MIDDLE)],
    },
    "TangentialClassifierFreeGuidance": {"guidance_scale": 3.0},
}
CHANGING = {
    "AutoGuidance",
    "PerturbedAttentionGuidance",
    "SkipLayerGuidance",
    "SmoothedEnergyGuidance",
}
LAWS = Laws(
    grid=given(
        *(
            {"guider": name, "settings": settings}
            for name, settings in SETTINGS.items()
            if name != "ClassifierFreeZeroStarGuidance"  # at no signal its zero noise has no image
        )
    ),
    off=lambda *_: {"guider": "ClassifierFreeGuidance", "settings": {"guidance_scale": 1.0}},
    backbones=("tiny_unet",),
)


def test_every_guider_that_is_installed_is_tried_here() -> None:
    assert set(SETTINGS) == set(guider_classes())


def as_pipelines_do(backbone: Backbone, name: str, x_t: Tensor, steps: int) -> Tensor:
    """DDIM with a guider that is driven as diffusers' modular pipelines drive it.

    One batch after another, hooks put on the network itself and taken off again.
    """
    guider = guider_classes()[name](**SETTINGS[name])
    levels = backbone.schedule.levels(steps)
    own = backbone.schedule.prediction_type
    cond, uncond = backbone.condition([""], ["red fox"])[0], backbone.unconditional()
    module = sharing_copy(backbone.denoiser)
    network = backbone.with_denoiser(module)
    for step, (level, after) in enumerate(itertools.pairwise(levels)):
        guider.set_state(step, steps, torch.tensor(level.timestep))
        batches = guider.prepare_inputs(SLOTS)
        alpha, sigma = torch.tensor(level.alpha), torch.tensor(level.sigma)
        for batch in batches:
            prepare(guider, module)
            row = uncond if batch.slot == "uncond" else cond
            out = network.forward(x_t[None], torch.tensor([level.timestep]), row)
            guider.cleanup_models(module)
            if name in CLEAN:
                out = converter(own)(x_t[None], out, alpha, sigma)[0]
            batch.noise_pred = out.flatten(2) if name in FLAT else out
        mixed = guider(batches).pred.view_as(x_t)
        space = "sample" if name in CLEAN else own
        x_0, eps = converter(space)(x_t, mixed, alpha, sigma)
        x_t = after.alpha * x_0 + after.sigma * eps
    return x_t


@pytest.mark.parametrize("name", sorted(SETTINGS))
@torch.inference_mode()
def test_runs_as_in_diffusers_pipelines(tiny_unet: Backbone, name: str) -> None:
    steps = 6
    x_t = torch.randn(tiny_unet.sample_shape, generator=torch.Generator().manual_seed(2))
    guidance = build(
        "guidance", MethodSpec(name=f"diffusers:{name}", params=SETTINGS[name]), "generation"
    )
    guidance.check(Models(tiny_unet))
    levels = tiny_unet.schedule.levels(steps)
    target = target_of(tiny_unet, 1)
    object.__setattr__(target, "walk", levels)
    program = Ddim().sample(guidance.denoiser(target), x_t, levels, torch.Generator())
    (ours,) = Engine(tiny_unet, 4).run([(0, program)])
    assert ours.value is not None
    if name == "ClassifierFreeZeroStarGuidance":
        assert ours.value.isfinite().all()
    wanted = as_pipelines_do(tiny_unet, name, x_t, steps)
    torch.testing.assert_close(ours.value, wanted, atol=2e-4, rtol=1e-4)
    plain = Ddim().sample(target.conditional, x_t, levels, torch.Generator())
    (other,) = Engine(tiny_unet, 4).run([(0, plain)])
    assert not torch.allclose(ours.value, other.value, atol=1e-3)


@pytest.mark.parametrize("name", sorted(CHANGING))
def test_the_network_is_not_touched(tiny_unet: Backbone, name: str) -> None:
    guidance = DiffusersGuider(guider=name, settings=SETTINGS[name])
    models = Models(tiny_unet)
    target = target_of(tiny_unet, 1, models=models)
    levels = tiny_unet.schedule.levels(4)
    object.__setattr__(target, "walk", levels)
    denoise = guidance.denoiser(target)
    networks: set[Any] = set()
    for level in levels[:-1]:
        program = denoise(torch.zeros(tiny_unet.sample_shape), level)
        calls = next(program)
        networks |= {call.network for call in calls if hasattr(call, "network")}
        program.close()
    assert len(networks) == 2  # as it is, and one changed copy
    assert None in networks
    for part in tiny_unet.denoiser.modules():  # type: ignore[union-attr]
        assert not hasattr(part, "_diffusers_hook")


def test_names_and_parameters_are_checked(mixture: GaussianMixture, tiny_unet: Backbone) -> None:
    def make(name: str, **settings: Any) -> DiffusersGuider:
        found: DiffusersGuider = build("guidance", MethodSpec(name=name, params=settings))
        return found

    with pytest.raises(ConfigError, match=r"guider: 'ClassifierFree' .*ClassifierFreeGuidance"):
        make("diffusers:ClassifierFree")
    with pytest.raises(ConfigError, match=r"settings\.scale: 3 .*guidance_scale"):
        make("diffusers:ClassifierFreeGuidance", scale=3)
    with pytest.raises(ConfigError, match="what ClassifierFreeGuidance takes"):
        make("diffusers:ClassifierFreeGuidance", start=2.0)
    with pytest.raises(ConfigError, match="video and sound"):
        make("diffusers:LTX2Guidance", stg_scale=1.0)
    with pytest.raises(ConfigError, match="random dropout"):
        make("diffusers:AutoGuidance", auto_guidance_layers=[0], dropout=0.5)
    with pytest.raises(ConfigError, match="'cfg': it has no variants"):
        make("cfg:x")
    skipping = make("diffusers:SkipLayerGuidance", **SETTINGS["SkipLayerGuidance"])
    with pytest.raises(ConfigError, match="no layers to change"):
        skipping.check(Models(mixture))
    lost = {**SETTINGS["SkipLayerGuidance"], "skip_layer_config": {**MIDDLE, "fqn": "nowhere"}}
    with pytest.raises(ConfigError, match="layers that this network has"):
        make("diffusers:SkipLayerGuidance", **lost).check(Models(tiny_unet))


def test_costs_what_the_guider_asks_for() -> None:
    def cost(name: str, **settings: Any) -> tuple[float, bool]:
        found = DiffusersGuider(guider=name, settings=settings)
        return found.calls_per_step, found.needs_unconditional

    assert cost("ClassifierFreeGuidance") == (2, True)
    assert cost("ClassifierFreeGuidance", guidance_scale=1.0) == (1, False)
    pag = SETTINGS["PerturbedAttentionGuidance"]
    assert cost("PerturbedAttentionGuidance", **pag) == (3, True)
    assert cost("PerturbedAttentionGuidance", **{**pag, "guidance_scale": 1.0}) == (2, False)
    assert name_of(DiffusersGuider(guider="LTX2Guidance")._make().prepare_inputs(SLOTS)[0])
