"""What a UNet sees of a source beside its noised start: a ControlNet's and an IP-Adapter's part.

Knows no family: Stable Diffusion and SDXL call it with their own conditioning.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from generators.backbones.base import ImageConditioning
from generators.errors import ConfigError
from generators.latent.controlnet import IMAGE, ControlNet, Residuals
from generators.latent.ip_adapter import EMBEDS, read_image
from generators.latent.pipeline import OpenPipeline
from generators.program import Conditioning
from generators.records import ImageInputs


class SourceReader:
    """Turns sources into conditionings, and these into arguments of the UNet.

    Args:
        opened: the pipeline, with an IP-Adapter where there is one.
        controlnet: loaded, or None.
    """

    def __init__(self, opened: OpenPipeline, controlnet: ControlNet | None) -> None:
        self._opened, self._controlnet = opened, controlnet
        self._null: Conditioning = {}
        if opened.pipeline.unet.config.encoder_hid_dim_type == "ip_image_proj":
            gray = torch.zeros(3, 64, 64, device=opened.device)
            # As from now on the network asks for an image, rows without one get the null image.
            self._null = read_image(opened.pipeline, opened.device, gray)[1]

    def complete(self, cond: Conditioning) -> Conditioning:
        """A prompt's conditioning with the null image, which `image_condition` may replace.

        All rows then have the same names, so that rows with and without an image share batches.
        """
        return {**cond, **self._null}

    def image_condition(self, pixels: Tensor, inputs: ImageInputs) -> ImageConditioning:
        """As `Backbone.image_condition`."""
        cond: dict[str, Tensor] = {}
        uncond: dict[str, Tensor] = {}
        if inputs.image_prompt:
            if not self._null:
                allowed = "false: this backbone has no `ip_adapter`"
                raise ConfigError("generation.image_inputs.image_prompt", True, allowed)
            yes, no = read_image(self._opened.pipeline, self._opened.device, pixels)
            cond.update(yes)
            uncond.update(no)
        if inputs.control != "none":
            if self._controlnet is None:
                allowed = "'none': this backbone has no `controlnet`"
                raise ConfigError("generation.image_inputs.control", inputs.control, allowed)
            control = self._controlnet.condition(pixels, inputs.control, inputs.control_scale)
            cond.update(control)
            uncond.update(control)
        return ImageConditioning(cond=cond, uncond=uncond)

    def added(self, cond: Conditioning) -> dict[str, Any]:
        """The UNet's `added_cond_kwargs` for the image prompts of the rows."""
        return {EMBEDS: [cond[EMBEDS]]} if self._null else {}

    def residuals(
        self,
        x_t: Tensor,
        timesteps: Tensor,
        text: Tensor,
        added: Mapping[str, Tensor] | None,
        cond: Conditioning,
    ) -> Residuals:
        """As `ControlNet.residuals`; nothing for rows without a control image."""
        if self._controlnet is None or IMAGE not in cond:
            return None, None
        return self._controlnet.residuals(x_t, timesteps, text, added, cond)
