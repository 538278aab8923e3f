"""What a UNet is given beside its checkpoint: adapters, a ControlNet, an IP-Adapter."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from generators.latent.adapters import Adapters
from generators.latent.controlnet import controlnet_identity, find_controlnet, open_controlnet
from generators.latent.image_inputs import SourceReader
from generators.latent.ip_adapter import IpAdapter
from generators.latent.pipeline import OpenPipeline
from generators.latent.runtime import Runtime
from generators.registry import JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Additions:
    """Parameters that the UNet families share, and what becomes of them.

    Attributes:
        adapters: LoRAs and learned words.
        controlnet: folder of a ControlNet, or None.
        ip_adapter: an IP-Adapter, or None.
        variant: of weight files, where they have it.
        runtime: options of the backbone.
    """

    adapters: Adapters
    controlnet: str | None
    ip_adapter: IpAdapter | None
    variant: str | None
    runtime: Runtime

    def check(self, unet: Mapping[str, JsonValue] | None) -> None:
        """Looks at all files.

        Args:
            unet: config of the network, None where its checkpoint is not here yet.

        Raises:
            CheckpointError: a file that is missing, damaged or of another family.
            ConfigError: settings that exclude each other.
        """
        self.adapters.check()
        if self.ip_adapter is not None:
            self.ip_adapter.check(self.runtime)
        if self.controlnet is not None:
            find_controlnet(self.controlnet, self.variant, unet)

    def apply(self, pipeline: Any) -> None:
        """Changes a loaded pipeline; raises what `Adapters.apply` and `IpAdapter.apply` do."""
        self.adapters.apply(pipeline)
        if self.ip_adapter is not None:
            self.ip_adapter.apply(pipeline)

    def identity(self, unet: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """What decides pixels, for fingerprints."""
        found: dict[str, JsonValue] = {"adapters": self.adapters.identity()}
        if self.controlnet is not None:
            part = find_controlnet(self.controlnet, self.variant, unet)
            found["controlnet"] = controlnet_identity(part)
        if self.ip_adapter is not None:
            found["ip_adapter"] = self.ip_adapter.identity()
        return found

    def open(self, opened: OpenPipeline, unet: Mapping[str, JsonValue]) -> SourceReader:
        """Loads the ControlNet, if any, beside a pipeline that `apply` changed."""
        controlnet = None
        if self.controlnet is not None:
            part = find_controlnet(self.controlnet, self.variant, unet)
            controlnet = open_controlnet(part, opened, self.runtime)
        return SourceReader(opened, controlnet)
