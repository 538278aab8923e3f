"""A generator in a worker's memory: the network with its engine, caches and timings.

Kept between jobs; a worker holds one at a time.
"""

import time

import torch

from generators.backbones.base import Backbone, BackboneSpec
from generators.cache import Encoder
from generators.checkpoint_places import contents_sha256
from generators.engine import Engine
from generators.errors import ConfigError
from generators.guidance.base import Guidance
from generators.program import Conditioning
from generators.registry import MethodSpec, build, content_hash
from infra.workers.base import WorkerContext

MIN_TIMED_BATCHES = 3


class LoadedGenerator:
    """What is made of a backbone at most once as long as its settings stay the same."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self._engine: tuple[tuple[int, bool], Engine] | None = None
        self._encoder: tuple[tuple[int, bool], Encoder] | None = None
        self._row_seconds: dict[int, float] = {}

    def engine(self, batch_size: int, *, pad: bool) -> Engine:
        """The engine of a batch size; it remembers when memory made it smaller."""
        key = (batch_size, pad)
        if self._engine is None or self._engine[0] != key:
            self._engine = (key, Engine(self.backbone, batch_size, pad=pad))
        return self._engine[1]

    def encoder(self, max_bytes: int, *, pad: bool) -> Encoder:
        """Encoded sources and prompts, kept up to `max_bytes`."""
        key = (max_bytes, pad)
        if self._encoder is None or self._encoder[0] != key:
            self._encoder = (key, Encoder(self.backbone, max_bytes, pad=pad))
        return self._encoder[1]

    def seconds_per_row(self, batch_size: int) -> float:
        """What a row of a full batch takes when nothing but the network runs; timed once."""
        if batch_size not in self._row_seconds:
            self._row_seconds[batch_size] = time_rows(self.backbone, batch_size, seconds=0.2)
        return self._row_seconds[batch_size]


def load_generator(context: WorkerContext, spec: MethodSpec) -> LoadedGenerator:
    """The worker's generator; loaded once, kept until another one is asked for."""
    method: BackboneSpec = build("backbone", spec, "generation.backbone")
    key = content_hash(spec.as_json())
    return context.keep("backbone", key, lambda: LoadedGenerator(method.load(context.device)))


@torch.inference_mode()
def time_rows(backbone: Backbone, batch_size: int, seconds: float) -> float:
    """Median seconds a row of a full batch takes, after a warm-up. Waits for the device.

    Args:
        backbone: the network.
        batch_size: rows.
        seconds: go on for so long, and for three batches at least.
    """
    device = backbone.device
    x_t = torch.zeros((batch_size, *backbone.sample_shape), device=device)
    timesteps = torch.full((batch_size,), backbone.schedule.levels(2)[1].timestep, device=device)
    one = _any_conditioning(backbone)
    cond = {name: torch.cat([value] * batch_size) for name, value in one.items()}
    times: list[float] = []
    started = time.perf_counter()
    while len(times) <= MIN_TIMED_BATCHES or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        backbone.forward(x_t, timesteps, cond)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - before)
    timed = sorted(times[1:])  # the first one warms up
    return timed[len(timed) // 2] / batch_size


def _any_conditioning(backbone: Backbone) -> Conditioning:
    name = (backbone.class_names or ("",))[0]
    return backbone.condition([""], [name])[0]


def generator_fingerprint(backbone: Backbone, guidance: MethodSpec) -> str:
    """Content hash of the network, and of the files that its guidance opens."""
    method: Guidance = build("guidance", guidance, "generation.guidance")
    if not method.files:
        return backbone.fingerprint
    hashes = [contents_sha256(file, "generation.guidance") for file in method.files]
    return content_hash([backbone.fingerprint, *hashes])


def check_fingerprint(found: str, planned: str) -> None:
    """Raises ConfigError when the network is not the one that requests were made for."""
    if found != planned:
        allowed = f"the network the plan was made for, with the files of its guidance ({planned})"
        raise ConfigError("generation.backbone", found, allowed)
