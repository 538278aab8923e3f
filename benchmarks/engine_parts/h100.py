"""What generation costs at least on an H100: operations counted on real configs, no weights.

`python -m benchmarks.engine_parts.h100` prints a Markdown table. Networks are built by diffusers'
own classes on torch's `meta` device and run there once under `torch.utils.flop_counter`, which
counts matrix products, convolutions and attention, a multiply-add as two operations; normalisation,
activations and additions are not counted. For one row of Stable Diffusion 1.5 at 64x64 that is
0.803e12 operations: 0.677e12 (0.339e12 multiply-adds, the number that profilers of layers give) in
convolutions and linear layers, 0.126e12 in attention's products. A guided step evaluates two rows.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from generators.records import num_denoising_steps

H100_DENSE_BF16 = 989.4e12
"""Operations a second, SXM, without sparsity (NVIDIA H100 datasheet)."""

LEVELS, STEPS = (10, 30, 50), 50

SD_15: Mapping[str, Any] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
"""stable-diffusion-v1-5/stable-diffusion-v1-5, unet/config.json; else the class's defaults."""

SDXL: Mapping[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "use_linear_projection": True,
}
"""stabilityai/stable-diffusion-xl-base-1.0, unet/config.json."""

FLUX: Mapping[str, Any] = {
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
}
"""black-forest-labs/FLUX.1-dev, transformer/config.json."""

VAE: Mapping[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
"""vae/config.json of all three; FLUX has 16 latent channels instead of 4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Operations of one family at one image size.

    Attributes:
        name: of the family.
        image_size: side, pixels.
        row: one evaluation of the denoiser on one row.
        rows_per_step: 2 with classifier-free guidance, 1 where guidance is distilled.
        encode: one image.
        decode: one image.
    """

    name: str
    image_size: int
    row: float
    rows_per_step: int
    encode: float
    decode: float

    def rows(self, level: int) -> int:
        """Evaluations of an image at a level, in percent."""
        return num_denoising_steps(STEPS, level) * self.rows_per_step

    @property
    def mean_rows(self) -> float:
        """Over the levels 10, 30 and 50 %."""
        return sum(map(self.rows, LEVELS)) / len(LEVELS)

    @property
    def image(self) -> float:
        """Operations of an image: its evaluations, its decoding, its share of the encoding."""
        return self.mean_rows * self.row + self.decode + self.encode / len(LEVELS)

    def floor_seconds(self, share_of_peak: float) -> float:
        """Seconds an image cannot do without at a share of the H100's peak, 0..1."""
        return self.image / (H100_DENSE_BF16 * share_of_peak)


def count(call: Callable[[], object]) -> float:
    """Operations of a call on meta tensors."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return float(counter.get_total_flops())


def meta(*shape: int) -> Tensor:
    """A tensor without data."""
    return torch.empty(shape, device="meta")


def sd_15() -> Cost:
    """Stable Diffusion 1.5, 512 px, 77 text tokens."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**SD_15)
    row = count(lambda: unet(meta(1, 4, 64, 64), meta(1), meta(1, 77, 768)))
    encode, decode = vae_costs(512, 4)
    return Cost(
        name="SD 1.5", image_size=512, row=row, rows_per_step=2, encode=encode, decode=decode
    )


def sdxl() -> Cost:
    """Stable Diffusion XL base, 1024 px, 77 text tokens."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**SDXL)
    added = {"text_embeds": meta(1, 1280), "time_ids": meta(1, 6)}
    row = count(
        lambda: unet(meta(1, 4, 128, 128), meta(1), meta(1, 77, 2048), added_cond_kwargs=added)
    )
    encode, decode = vae_costs(1024, 4)
    return Cost(
        name="SDXL", image_size=1024, row=row, rows_per_step=2, encode=encode, decode=decode
    )


def flux() -> Cost:
    """FLUX.1-dev, 1024 px, 512 text tokens; guidance is an input, so one row a step."""
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        transformer = FluxTransformer2DModel(**FLUX)
    tokens = (1024 // 16) ** 2
    row = count(
        lambda: transformer(
            hidden_states=meta(1, tokens, 64),
            encoder_hidden_states=meta(1, 512, 4096),
            pooled_projections=meta(1, 768),
            timestep=meta(1),
            guidance=meta(1),
            img_ids=meta(tokens, 3),
            txt_ids=meta(512, 3),
        )
    )
    encode, decode = vae_costs(1024, 16)
    return Cost(
        name="FLUX.1", image_size=1024, row=row, rows_per_step=1, encode=encode, decode=decode
    )


def vae_costs(image_size: int, latent_channels: int) -> tuple[float, float]:
    """Operations of encoding and of decoding an image."""
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        vae = AutoencoderKL(**VAE, latent_channels=latent_channels)
    side = image_size // 8
    encode = count(lambda: vae.encode(meta(1, 3, image_size, image_size)))
    return encode, count(lambda: vae.decode(meta(1, latent_channels, side, side)))


def table(costs: list[Cost], share_of_peak: float, overhead: float, fill: float) -> str:
    """Markdown: a family a row.

    Args:
        costs: the families.
        share_of_peak: of the H100, that networks are assumed to reach, 0..1.
        overhead: host seconds a row costs beside the network.
        fill: mean rows a batch as a share of the batch size, 0..1.
    """
    lines = [
        "| | px | TFLOP a row | rows an image | VAE, TFLOP (encode / decode) | TFLOP an image | "
        f"floor at {share_of_peak:.0%} of peak, s an image | images an hour | device ms a row | "
        f"host ms a row | network's share of the time, fill {fill:.1%} |",
        "|---" * 11 + "|",
    ]
    for cost in costs:
        floor = cost.floor_seconds(share_of_peak)
        row_seconds = cost.row / (H100_DENSE_BF16 * share_of_peak)
        cells = [
            cost.name,
            cost.image_size,
            f"{cost.row / 1e12:.2f}",
            f"{cost.mean_rows:.0f}",
            f"{cost.encode / 1e12:.2f} / {cost.decode / 1e12:.2f}",
            f"{cost.image / 1e12:.1f}",
            f"{floor:.3f}",
            f"{3600 / floor:,.0f}",
            f"{row_seconds * 1e3:.2f}",
            f"{overhead * 1e3:.3f}",
            f"{reached(row_seconds, overhead, fill):.1%}",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def reached(row_seconds: float, overhead: float, fill: float) -> float:
    """Share of the time that the device spends on rows that were asked for.

    Host and device work at the same time: what the host does beside is hidden as long as it takes
    less than the rows themselves. Launching the network's own kernels is not in it, as
    bare networks need that, too. Rows that stay empty are lost whatever the host does (where
    batches are not padded, a batch that is not full takes less time, so this is the worst case).
    """
    return fill * min(1.0, row_seconds / overhead) if overhead > 0 else fill


def measured(path: Path) -> tuple[float, float]:
    """Host seconds a row and batch fill from the results of the engine benchmark."""
    found = json.loads(path.read_text())["measurements"]
    tiny = found["engine_over_bare_tiny"]
    overhead = max(0.0, tiny["overhead_seconds_per_row"])  # noise in short runs may be larger
    return overhead, found["mean_batch_fill"]["ratio"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share-of-peak", type=float, default=0.5)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/engine.json"))
    asked = parser.parse_args()
    overhead, fill = measured(asked.results) if asked.results.is_file() else (0.0, 1.0)
    print(table([sd_15(), sdxl(), flux()], asked.share_of_peak, overhead, fill))


if __name__ == "__main__":
    main()
