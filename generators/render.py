"""A generation request as a program: joins schedule, source, guidance and sampler.

Knows nothing of batches or files. Image guidance follows SDEdit (Meng et al. 2021,
arXiv:2108.01073) as used by DisCL: the source is noised to the level's start and denoised from
there; 0 percent starts from noise alone, 100 percent is the source.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from generators.backbones.base import Backbone, ImageConditioning
from generators.guidance.base import Guidance, Target
from generators.models import Models
from generators.noise import NoiseLevel
from generators.program import Conditioning, Program
from generators.records import GenerationRequest
from generators.registry import build
from generators.samplers.base import Sampler
from generators.transfer import randn

NO_IMAGE = ImageConditioning(cond={}, uncond={})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """One request with the tensors it needs.

    Attributes:
        request: what to make.
        source: (C, h, w), the encoded source image.
        cond: conditioning of its class and prompt.
        image: what the network sees of the source beside the noised start, if anything.
    """

    request: GenerationRequest
    source: Tensor
    cond: Conditioning
    image: ImageConditioning | None = None


class Renderer:
    """Builds programs for one backbone; methods and levels are built once per distinct spec.

    Args:
        backbone: the network.
        class_names: of the data set, by label; default: the network's.
        prompt: template of the run, for guidance towards other classes.
    """

    def __init__(
        self, backbone: Backbone, class_names: Sequence[str] = (), prompt: str = "{class_name}"
    ) -> None:
        self.backbone, self.models = backbone, Models(backbone, class_names, prompt)
        self._methods: dict[str, tuple[Guidance, Sampler]] = {}
        self._levels: dict[tuple[int, int], tuple[NoiseLevel, ...]] = {}

    def program(self, job: Job) -> Program[Tensor]:
        """Returns the sample (C, h, w). Whether it is finite is seen where it is decoded."""
        request = job.request
        if request.image_guidance == 100:
            return job.source
        guidance, sampler = self._built(request)
        levels = self._levels_of(request)
        generator = torch.Generator().manual_seed(request.noise_seed)
        noise = randn(job.source.shape, generator, job.source.device)
        image = job.image or NO_IMAGE
        target = Target(
            cond={**job.cond, **image.cond},
            uncond={**self.models.unconditional(), **image.uncond}
            if guidance.needs_unconditional
            else None,
            label=request.label,
            source=job.source,
            models=self.models,
            walk=levels,
        )
        start = levels[0]
        # The schedule's last alpha need not be 0: a free generation must not see the source.
        x_t = noise
        if request.image_guidance > 0:
            x_t = start.alpha * job.source + start.sigma * noise
        sample = yield from sampler.sample(guidance.denoiser(target), x_t, levels, generator)
        yield from guidance.verify(target, sample)
        return sample

    def _built(self, request: GenerationRequest) -> tuple[Guidance, Sampler]:
        key = f"{request.guidance.as_json()}{request.sampler.as_json()}"
        if key not in self._methods:
            guidance = build("guidance", request.guidance, "generation.guidance")
            self._methods[key] = (guidance, build("sampler", request.sampler, "generation.sampler"))
        return self._methods[key]

    def _levels_of(self, request: GenerationRequest) -> tuple[NoiseLevel, ...]:
        key = (request.num_inference_steps, request.image_guidance)
        if key not in self._levels:
            self._levels[key] = self.backbone.schedule.levels(*key)
        return self._levels[key]
