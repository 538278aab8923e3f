"""How a pipeline is run: data type, memory format, compilation, offloading. Not what it computes.

Only the data type changes images beyond rounding; so it alone is part of a fingerprint.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import ConfigDict

from generators.errors import ConfigError

MAX_VERSIONS = 64  # of one block's code in a process, over all networks it has loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Options of a latent backbone that trade memory, time and accuracy.

    Attributes:
        dtype: of the networks; `auto` is float32 on a CPU, elsewhere bfloat16, or float16 where the
            device has no bfloat16. Part of the fingerprint: float32 and bfloat16 give other images.
        channels_last: memory format of convolutional networks; faster with half precision.
        compile: torch.compile of the denoiser. `blocks` compiles the blocks that repeat, which
            starts sooner; `full` the whole network, which is faster, for a minute or more at the
            first batch of every shape: with `generation.deterministic` all have the same one.
        attention: `sliced` computes attention head by head: slower, less memory.
        vae_slicing: decode one image at a time.
        vae_tiling: encode and decode in overlapping tiles; seams may differ slightly.
        offload: `model` keeps one network on the device at a time, `sequential` one layer.
        device_map: `balanced` spreads denoiser and text encoders over all GPUs the worker has.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    channels_last: bool = True
    compile: Literal["none", "blocks", "full"] = "none"
    attention: Literal["sdpa", "sliced"] = "sdpa"
    vae_slicing: bool = False
    vae_tiling: bool = False
    offload: Literal["none", "model", "sequential"] = "none"
    device_map: Literal["none", "balanced"] = "none"

    def check(self) -> None:
        """Raises ConfigError for options that exclude each other on every device."""
        if self.device_map != "none" and self.offload != "none":
            raise ConfigError("runtime.offload", self.offload, "'none' with a device_map")
        compiled = self.compile != "none"
        if compiled and self.offload == "sequential":
            allowed = "'none': layers that move between devices cannot be compiled"
            raise ConfigError("runtime.compile", self.compile, allowed)
        if compiled and self.attention == "sliced":
            # Its loop over slices is unrolled: minutes of compilation for a slower network.
            raise ConfigError("runtime.attention", self.attention, "'sdpa' with compile")
        if compiled and self.device_map != "none":
            allowed = "'none': a network that is spread over devices cannot be compiled"
            raise ConfigError("runtime.compile", self.compile, allowed)

    def check_device(self, device: torch.device) -> None:
        """Raises ConfigError for options this device does not have."""
        self.check()
        if self.offload != "none" and device.type == "cpu":
            raise ConfigError("runtime.offload", self.offload, "'none': there is no GPU to spare")
        if self.device_map != "none":
            count = torch.cuda.device_count() if device.type == "cuda" else 0
            if count < 2:
                allowed = f"'none': it takes two GPUs in one worker, found {count}"
                raise ConfigError("runtime.device_map", self.device_map, allowed)
        if self.dtype == "bfloat16" and not _has_bfloat16(device):
            raise ConfigError("runtime.dtype", self.dtype, "'float16' or 'float32' on this GPU")

    def torch_dtype(self, device: torch.device) -> torch.dtype:
        """The data type on this device."""
        if self.dtype == "auto":
            if device.type == "cpu":
                return torch.float32
            return torch.bfloat16 if _has_bfloat16(device) else torch.float16
        return {
            "float32": torch.float32,
            "bfloat16": torch.bfloat16,
            "float16": torch.float16,
        }[self.dtype]


def place(pipeline: Any, runtime: Runtime, device: torch.device, mapped: frozenset[str]) -> None:
    """Brings a pipeline onto its device with these options.

    Args:
        pipeline: loaded, with its adapters.
        runtime: checked for the device.
        device: where it computes.
        mapped: components that are spread over devices already.
    """
    modules = {
        name: part
        for name, part in pipeline.components.items()
        if isinstance(part, torch.nn.Module)
    }
    for module in modules.values():
        module.eval().requires_grad_(False)
    network = denoiser(pipeline)
    _attend(network, runtime)
    if runtime.vae_slicing:
        pipeline.vae.enable_slicing()
    if runtime.vae_tiling:
        pipeline.vae.enable_tiling()
    if runtime.channels_last:
        for module in (network, pipeline.vae):
            module.to(memory_format=torch.channels_last)
    if runtime.offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif runtime.offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        for name, module in modules.items():
            if name not in mapped:
                module.to(device)
    if runtime.compile != "none":
        _compile(network, blocks=runtime.compile == "blocks")


def denoiser(pipeline: Any) -> Any:
    """The network that predicts noise: `unet` or `transformer`."""
    components = pipeline.components
    return components["unet"] if "unet" in components else components["transformer"]


def make_room(pipeline: Any) -> None:
    """With model offloading, frees the device for the text encoders; otherwise nothing."""
    pipeline.maybe_free_model_hooks()


def _attend(network: Any, runtime: Runtime) -> None:
    """Sliced attention, which only UNets have."""
    from diffusers import UNet2DConditionModel

    if runtime.attention == "sdpa":
        return
    if not isinstance(network, UNet2DConditionModel):
        allowed = f"'sdpa': {type(network).__name__} has no sliced attention"
        raise ConfigError("runtime.attention", runtime.attention, allowed)
    network.set_attention_slice("max")


def _compile(network: Any, *, blocks: bool) -> None:
    """Compiles the repeated blocks once for all of them, or the whole network.

    Blocks of a UNet share their code but not their widths, and each width is compiled for one batch
    size and again for any. Torch gives up after eight versions, silently and for good.
    """
    from torch._dynamo import config as limits  # heavy: a second

    limits.recompile_limit = max(limits.recompile_limit, MAX_VERSIONS)
    if blocks and network._repeated_blocks:
        network.compile_repeated_blocks()
    else:
        network.compile()


def _has_bfloat16(device: torch.device) -> bool:
    """Older GPUs only emulate it."""
    if device.type != "cuda":
        return True
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))
