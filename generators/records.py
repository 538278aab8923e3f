"""What is asked of a generator and what came of it: one request, one manifest row.

Knows nothing of tensors or storage. A request's content key is its name everywhere: sample key,
tar key, manifest key.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from generators.errors import ConfigError
from generators.registry import JsonValue, MethodSpec, canonical_json, content_hash

RESULT_VERSION = 1  # part of every content key; raise it when the same request gives other pixels

Status = Literal["ok", "filtered", "failed"]
WORKER_DIED = "worker_died"
"""Reason of an image that was given up with its shard; says nothing of the request itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInputs:
    """What the network sees of the source image beside its noised start.

    Attributes:
        control: what a ControlNet is shown: the source itself (tile, blur and similar networks) or
            its edges (Canny); `none` leaves it out.
        control_scale: weight of the ControlNet's residuals, 0..2.
        image_prompt: whether an IP-Adapter reads the source as a prompt.
    """

    control: Literal["none", "source", "edges"] = "none"
    control_scale: Annotated[float, Field(ge=0, le=2)] = 1.0
    image_prompt: bool = False

    def as_json(self) -> dict[str, JsonValue]:
        """Plain data."""
        return asdict(self)


NO_IMAGE_INPUTS = ImageInputs()


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """Everything the pixels of one synthetic image depend on.

    Attributes:
        source_key: key of the real image it starts from, `[A-Za-z0-9_-]+`.
        source_sha256: sha256 of that image's stored bytes: another image, another request.
        label: class index, 0..num_classes-1.
        class_name: the class in words; class-conditional backbones look it up.
        prompt: text for text-conditional backbones.
        image_guidance: percent. 100 is the real image itself, 0 a pure noise start.
        seed: noise is drawn from (source_key, seed), so all levels of an image share it.
        num_inference_steps: steps of the full schedule; a level runs a part of them.
        guidance: how conditional and unconditional predictions are combined.
        sampler: how a prediction becomes the next, less noisy image.
        backbone: fingerprint of the network.
        image_inputs: what it sees of the source beside the noised start.
    """

    source_key: str
    source_sha256: str
    label: int
    class_name: str
    prompt: str
    image_guidance: int
    seed: int
    num_inference_steps: int
    guidance: MethodSpec
    sampler: MethodSpec
    backbone: str
    image_inputs: ImageInputs = NO_IMAGE_INPUTS

    def __post_init__(self) -> None:
        check_image_guidance(self.image_guidance)

    def as_json(self) -> dict[str, JsonValue]:
        """Plain data, as stored beside the image and in the manifest."""
        data: dict[str, JsonValue] = {
            "source_key": self.source_key,
            "source_sha256": self.source_sha256,
            "label": self.label,
            "class_name": self.class_name,
            "prompt": self.prompt,
            "image_guidance": self.image_guidance,
            "seed": self.seed,
            "num_inference_steps": self.num_inference_steps,
            "guidance": self.guidance.as_json(),
            "sampler": self.sampler.as_json(),
            "backbone": self.backbone,
        }
        if self.image_inputs != NO_IMAGE_INPUTS:  # left out, so that keys of old requests stay
            data["image_inputs"] = self.image_inputs.as_json()
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, JsonValue]) -> "GenerationRequest":
        """The inverse of `as_json`."""
        values = dict(data)
        for name in ("guidance", "sampler"):
            params = dict(values[name])
            values[name] = MethodSpec(name=params.pop("name"), params=params)
        values["image_inputs"] = ImageInputs(**values.get("image_inputs", {}))
        return cls(**values)

    @property
    def key(self) -> str:
        """Content key: 32 hex digits of the sha256 of the canonical JSON."""
        return content_hash({"version": RESULT_VERSION, **self.as_json()})

    @property
    def noise_seed(self) -> int:
        """Seed of all randomness of this request, from (source_key, seed) alone; < 2**63."""
        text = canonical_json([self.source_key, self.seed])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRecord:
    """One manifest row. Failures and rejections are rows too.

    Attributes:
        status: `ok`, `filtered` (made, but a judge refused it) or `failed` (never made).
        reason: code of the refusal or failure, empty when ok.
        num_model_calls: rows the network evaluated for it.
        scores: judge name to score.
    """

    key: str
    request: GenerationRequest
    num_model_calls: int
    status: Status
    reason: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)


def check_image_guidance(level: int, at: str = "image_guidance") -> int:
    """Returns `level` if it is an integer percent.

    Raises:
        ConfigError: not an integer in 0..100.
    """
    if isinstance(level, bool) or not isinstance(level, int) or not 0 <= level <= 100:
        raise ConfigError(at, level, "an integer percent in 0..100 (100 = the real image)")
    return level


def num_denoising_steps(num_inference_steps: int, image_guidance: int) -> int:
    """Steps a level runs, in exact integer arithmetic: floor(N * (100 - image_guidance) / 100).

    In floats, `int(50 * (1 - 0.9))` is 4; this is 5.
    """
    return num_inference_steps * (100 - image_guidance) // 100
