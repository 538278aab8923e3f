"""IP-Adapter: an image read as a prompt (Ye et al. 2023, arXiv:2308.06721).

Its image encoder's features go through cross-attention of their own. Loading and the attention are
diffusers'; the scale belongs to the loaded network, because its attention takes one number.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import ConfigDict, Field
from safetensors import safe_open
from torch import Tensor

from generators.checkpoint_places import local_checkpoint
from generators.errors import CheckpointError, ConfigError
from generators.latent.content import config_hash, file_hash
from generators.latent.runtime import Runtime, make_room
from generators.latent.weights import check_safetensors, read_json, weight_files
from generators.program import Conditioning
from generators.registry import JsonValue

AT = "generation.backbone.ip_adapter.path"
EMBEDS = "image_embeds"
"""Entry of a conditioning, (1, 1, channels) or (1, 1, tokens, channels)."""

PARTS = ("image_proj", "ip_adapter")
FACES = frozenset({"IPAdapterFaceIDImageProjection", "IPAdapterFaceIDPlusImageProjection"})


@dataclass(frozen=True, slots=True, kw_only=True)
class IpAdapter:
    """An IP-Adapter in the layout of `h94/IP-Adapter`.

    Attributes:
        path: a folder.
        weight_name: a safetensors file in its subfolder.
        subfolder: of the folder, e.g. `models`; empty for the folder itself.
        image_encoder: folder of the CLIP image encoder: in the subfolder or, where there is a slash
            in it, in the folder (`models/image_encoder`).
        scale: of the image against the text, 0..2.
    """

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    path: str
    weight_name: str
    subfolder: str = ""
    image_encoder: str = "image_encoder"
    scale: Annotated[float, Field(ge=0, le=2)] = 1.0

    def check(self, runtime: Runtime) -> None:
        """Looks at its files.

        Raises:
            CheckpointError: a file that is missing, or holds something else.
            ConfigError: sliced attention, which would replace its own.
        """
        if runtime.attention == "sliced":
            raise ConfigError("runtime.attention", "sliced", "'sdpa' with an ip_adapter")
        file = self._file()
        if not file.is_file():
            raise CheckpointError(f"ip_adapter: no file {str(file)!r}")
        if file.suffix != ".safetensors":
            raise CheckpointError(
                f"ip_adapter: {str(file)!r} is no *.safetensors; other formats can run code"
            )
        check_safetensors(file)
        with safe_open(file, framework="pt") as opened:
            found = {name.partition(".")[0] for name in list(opened.keys())}
        if not found.issuperset(PARTS):
            raise CheckpointError(f"ip_adapter: {str(file)!r} holds {sorted(found)}, not {PARTS}")
        if not self._encoder().is_dir():
            raise CheckpointError(
                f"ip_adapter: no image encoder in {str(self._encoder())!r}; set image_encoder"
            )
        read_json(self._encoder() / "config.json")
        weight_files(self._encoder(), "transformers", None)

    def identity(self) -> list[JsonValue]:
        """What of it decides pixels: hashes of its files, and the scale."""
        encoder = self._encoder()
        weights = [file_hash(file) for file in weight_files(encoder, "transformers", None)]
        return [
            file_hash(self._file()),
            config_hash(encoder / "config.json"),
            *weights,
            self.scale,
        ]

    def apply(self, pipeline: Any) -> None:
        """Loads it into a diffusers pipeline.

        Raises:
            CheckpointError: it was made for another network, or reads faces instead of images.
        """
        try:
            pipeline.load_ip_adapter(
                str(self._folder()),
                subfolder=self.subfolder,
                weight_name=self.weight_name,
                image_encoder_folder=self.image_encoder,
                local_files_only=True,
            )
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            why = " ".join(str(error).splitlines()[:2])
            raise CheckpointError(
                f"ip_adapter: {self.weight_name!r} does not fit this network: {why}"
            ) from error
        kinds = _readers(pipeline)
        if kinds & FACES:
            raise CheckpointError(
                f"ip_adapter: {self.weight_name!r} reads faces ({sorted(kinds)[0]}), not images"
            )
        pipeline.image_encoder.to(pipeline.unet.dtype)
        pipeline.set_ip_adapter_scale(self.scale)

    def _folder(self) -> Path:
        return local_checkpoint(self.path, AT)

    def _file(self) -> Path:
        return self._folder() / self.subfolder / self.weight_name

    def _encoder(self) -> Path:
        folder = self._folder()
        inside = folder if "/" in self.image_encoder else folder / self.subfolder
        return inside / self.image_encoder


def _readers(pipeline: Any) -> set[str]:
    """Class names of the layers that read the image encoder's output."""
    return {
        type(layer).__name__ for layer in pipeline.unet.encoder_hid_proj.image_projection_layers
    }


@torch.inference_mode()
def read_image(
    pipeline: Any, device: torch.device, pixels: Tensor
) -> tuple[Conditioning, Conditioning]:
    """An image as prompt, and what diffusers gives the unconditional evaluation beside it.

    Args:
        pipeline: with an IP-Adapter.
        device: where it computes.
        pixels: (3, H, W) in [-1, 1].
    """
    make_room(pipeline)
    image = ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    inputs = pipeline.feature_extractor([image], return_tensors="pt").pixel_values
    (both,) = pipeline.prepare_ip_adapter_image_embeds(inputs, None, device, 1, True)
    no, yes = both.to(pipeline.unet.dtype).chunk(2)
    return {EMBEDS: yes}, {EMBEDS: no}
