"""Every method over its scales, with what it was fitted to."""

from collections.abc import Iterator
from pathlib import Path

from benchmarks.guidance_parts.beds import Bed
from generators.guidance_fits.base import GuidanceFit, Materials
from generators.models import Models
from generators.noise import NoiseLevel
from generators.registry import JsonValue, MethodSpec, build, content_hash

Params = dict[str, JsonValue]
MIDDLE: Params = {"indices": [0], "fqn": "mid_block.attentions"}
SCORES: Params = {
    **MIDDLE,
    "skip_attention": False,
    "skip_attention_scores": True,
    "skip_ff": False,
}
DIFFUSERS: dict[str, Params] = {
    "AdaptiveProjectedGuidance": {"guidance_scale": 3.0},
    "AdaptiveProjectedMixGuidance": {"guidance_scale": 2.0},
    "AutoGuidance": {"guidance_scale": 2.0, "auto_guidance_config": {**SCORES}},
    "ClassifierFreeGuidance": {"guidance_scale": 2.0},
    "ClassifierFreeZeroStarGuidance": {"guidance_scale": 2.0, "zero_init_steps": 0},
    "FrequencyDecoupledGuidance": {"guidance_scales": [2.0, 1.5]},
    "LTX2Guidance": {"guidance_scale": 2.0},
    "MagnitudeAwareGuidance": {"guidance_scale": 2.0},
    "PerturbedAttentionGuidance": {
        "guidance_scale": 2.0,
        "perturbed_guidance_scale": 1.0,
        "perturbed_guidance_stop": 1.0,
        "perturbed_guidance_config": SCORES,
    },
    "SkipLayerGuidance": {
        "guidance_scale": 2.0,
        "skip_layer_guidance_scale": 1.0,
        "skip_layer_guidance_stop": 1.0,
        "skip_layer_config": SCORES,
    },
    "SmoothedEnergyGuidance": {
        "guidance_scale": 2.0,
        "seg_guidance_scale": 1.0,
        "seg_guidance_config": [MIDDLE],
    },
    "TangentialClassifierFreeGuidance": {"guidance_scale": 2.0},
}


class Fits:
    """Files that methods are given; each fitted once for a bed and its walks.

    Args:
        bed: of the benchmark.
        walks: noise levels of all runs.
        effort: 1, or less for shorter fits.
    """

    def __init__(self, bed: Bed, walks: list[tuple[NoiseLevel, ...]], effort: float) -> None:
        self._bed, self._effort = bed, effort
        names = bed.renderer.models.class_names
        self._materials = Materials(
            models=Models(bed.backbone, names, walks=walks),
            samples=bed.pool.pixels[:600],
            labels=bed.pool.labels[:600],
            num_inference_steps=10,
            batch_size=64,
            seed=0,
        )

    def path(self, method: str, /, **params: JsonValue) -> str:
        """The file."""
        spec = MethodSpec(name=method, params=params)
        key = content_hash([spec.as_json(), self._bed.name, self._effort], 8)
        path = self._bed.folder / f"{method}-{key}.safetensors"
        if not path.exists():
            fit: GuidanceFit = build("guidance_fit", spec)
            fit.check(self._materials)
            for _ in fit.fit(self._materials, path):
                pass
        return str(path)

    def steps(self, count: int) -> int:
        """As many, or fewer."""
        return max(2, round(count * self._effort))


def grid(bed: Bed, fits: Fits, *, quick: bool) -> Iterator[tuple[str, Params]]:
    """Name and parameters of every case; one scale each if quick."""
    for name, scales, params in (*_plain(bed), *_classifier(bed, fits), *_other(bed, fits)):
        for scale in scales[:1] if quick else scales:
            yield name, {**params, "guidance_scale": scale} if scale is not None else params
    for guider, settings in DIFFUSERS.items():
        yield f"diffusers:{guider}", settings
    for parts in _lists(bed):
        yield "together", {"methods": parts}


Case = tuple[str, list[float | None], Params]


def _plain(bed: Bed) -> Iterator[Case]:
    like = "8" if bed.num_classes > 8 else "3"
    yield "none", [None], {}
    yield "cfg", [2.0, 1.5, 3.0, 5.0], {}
    yield "cfg", [3.0], {"sigma_min": 0.3, "sigma_max": 5.0}
    yield "cfg_pp", [0.2, 0.1, 0.4, 0.6], {}
    yield "adaptive", [2.0, 3.0], {"threshold": 0.991}
    yield "adaptive", [2.0], {"threshold": 0.97}
    yield "composable", [2.0], {"conditions": [{"class_name": like, "weight": -0.3}]}
    yield "spatial", [1.5], {"regions": [{"box": [0.2, 0.2, 0.8, 0.8], "weight": 1.0}]}


def _classifier(bed: Bed, fits: Fits) -> Iterator[Case]:
    own: Params = {"classifier": bed.guide}
    yield "elucidated", [1.0, 0.3, 3.0], own
    yield "gradient_free", [3.0, 2.0, 5.0], own
    yield "recognizer", [0.1, 0.2, 0.4], own
    experts = fits.path(
        "plug_and_play",
        classifier=bed.guide,
        steps=fits.steps(200),
        num_images=fits.steps(400),
        num_experts=3,
    )
    yield "plug_and_play", [1.0, 3.0], {**own, "experts": experts}
    yield "feasibility", [0.2], {**own, "min_probability": 0.8}
    wishes: list[Params] = [own, {**own, "weight": 0.5}]
    yield "distribution", [1.0], {"wishes": wishes}


def _other(bed: Bed, fits: Fits) -> Iterator[Case]:
    minority = fits.path("minority", steps=fits.steps(400), num_bins=5)
    yield "minority", [1.0, 3.0], {"classifier": minority}
    yield "perturbed_attention", [1.0, 3.0], {}
    images = fits.steps(20)
    heads = fits.path("head_hunter", classifier=bed.guide, num_images=images, guidance_scale=1.0)
    yield "soft_perturbed_attention", [1.0, 3.0], {"selection": heads}
    if bed.weak is not None:
        yield "auto", [1.5, 2.0, 3.0], {"weak": bed.weak}
    module = fits.path("invariant", steps=fits.steps(300))
    yield "invariant", [0.8], {"module": module}
    for scale in (2.0, 3.0):
        fit = fits.path("linear_adaptive", guidance_scale=scale, num_trajectories=fits.steps(100))
        yield "linear_adaptive", [scale], {"coefficients": fit}


def _lists(bed: Bed) -> Iterator[list[Params]]:
    guided: Params = {"name": "elucidated", "classifier": bed.guide, "guidance_scale": 0.3}
    yield [{"name": "cfg_pp", "guidance_scale": 0.2}, guided]
    yield [{"name": "cfg", "guidance_scale": 2.0}, guided]
    shown: Params = {"name": "recognizer", "classifier": bed.guide, "guidance_scale": 0.1}
    yield [{"name": "cfg", "guidance_scale": 2.0}, shown]


def short(params: Params) -> Params:
    """Without the names of files, for the results."""
    return {name: _short(value) for name, value in params.items()}


def _short(value: JsonValue) -> JsonValue:
    if isinstance(value, str) and "/" in value:
        return Path(value).stem
    if isinstance(value, dict):
        return short(value)
    if isinstance(value, list):
        return [_short(each) for each in value]
    return value
