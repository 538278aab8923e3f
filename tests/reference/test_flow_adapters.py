"""LoRAs of Stable Diffusion 3 and FLUX against diffusers' `load_lora_weights`."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from generators.latent.adapters import Adapters, Lora
from tests.support.flow_cases import (
    Case,
    Make,
    flux_case,
    flux_spec,
    request_of,
    sd3_case,
    sd3_spec,
    source,
    theirs,
)
from tests.support.latents import assert_close, make_latents
from tests.support.tiny_adapters import save_lora
from tests.support.tiny_transformers import save_flux, save_sd3

FAMILIES = {
    "sd3": (save_sd3, sd3_case, sd3_spec, ("text_encoder", "text_encoder_2")),
    "flux": (save_flux, flux_case, flux_spec, ("text_encoder",)),
}


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("text", [True, False])
def test_a_lora_at_its_scale_equals_diffusers(
    family: str, text: bool, tmp_path: Path, make_request: Make
) -> None:
    save, case_of, spec_of, encoders = FAMILIES[family]
    folder = save(tmp_path / "model")
    trained: Sequence[str] = encoders if text else ()
    lora = save_lora(case_of(folder).pipeline, tmp_path / "lora", encoders=trained, seed=1)
    request = request_of(make_request, 50, 2.0, "a red fox in deep snow")

    plain: Case = case_of(folder)
    before = theirs(plain, request, source())
    plain.pipeline.load_lora_weights(lora, adapter_name="one")
    plain.pipeline.set_adapters(["one"], [3.0])
    expected = theirs(plain, request, source())
    spec = spec_of(folder, adapters=Adapters(loras=(Lora(path=str(lora), scale=3.0),)))
    spec.check()
    (made,) = make_latents(spec.load("cpu"), [request], source())

    assert_close(made, expected)
    assert float((torch.as_tensor(before) - expected).abs().max()) > 0.01
