"""What a backbone method can load: which pipelines, with which components."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from generators.errors import CheckpointError, one_of
from generators.registry import JsonValue

METHODS: dict[str, str] = {
    "StableDiffusionPipeline": "stable_diffusion",
    "StableDiffusionImg2ImgPipeline": "stable_diffusion",
    "LatentConsistencyModelPipeline": "stable_diffusion",
    "LatentConsistencyModelImg2ImgPipeline": "stable_diffusion",
    "StableDiffusionXLPipeline": "stable_diffusion_xl",
    "StableDiffusionXLImg2ImgPipeline": "stable_diffusion_xl",
    "StableDiffusion3Pipeline": "stable_diffusion_3",
    "StableDiffusion3Img2ImgPipeline": "stable_diffusion_3",
    "FluxPipeline": "flux",
    "FluxImg2ImgPipeline": "flux",
    "PixArtAlphaPipeline": "pixart",
    "PixArtSigmaPipeline": "pixart",
    "DiTPipeline": "dit",
}
"""Pipeline class of a checkpoint to the backbone method that loads it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The checkpoints one backbone method loads.

    Attributes:
        method: the backbone's name; it loads what `METHODS` gives to it.
        pipeline: diffusers' pipeline class that is built, whichever of the family was saved.
        components: the ones a checkpoint must have.
        optional: the ones that are loaded where a checkpoint has them.
        left_out: constructor arguments that stay empty, e.g. a safety checker.
        options: further constructor arguments.
    """

    method: str
    pipeline: str
    components: tuple[str, ...]
    optional: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    options: Mapping[str, JsonValue] = field(default_factory=dict)

    def require(self, class_name: JsonValue, where: str) -> None:
        """Raises CheckpointError, naming the right method, for another family's pipeline."""
        mine = [name for name, method in METHODS.items() if method == self.method]
        if class_name in mine:
            return
        if isinstance(class_name, str) and class_name in METHODS:
            hint = f"use the backbone {METHODS[class_name]!r}"
        else:
            hint = f"{self.method!r} loads {one_of(mine)}"
        raise CheckpointError(f"{where}: _class_name is {class_name!r}, another family; {hint}")
