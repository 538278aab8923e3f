from typing import Any

import pytest
import torch

from generators.backbones.base import Backbone
from generators.errors import ConfigError
from generators.guidance.soft_perturbed_attention import SoftPerturbedAttention
from generators.models import Models
from generators.registry import MethodSpec
from generators.steering.attention import MixWithValues, perturbed, self_attentions
from tests.support.guidance import Laws, given

MIDDLE = "mid_block.attentions.0"
LAWS = Laws(
    grid=given(
        {"guidance_scale": 3.0},
        {"guidance_scale": 5.0, "heads": [f"{MIDDLE}:0", "up_blocks.0.attentions.1:1"]},
        {"strength": 1.0, "heads": ["up_blocks.0.attentions.0:0"]},
    ),
    off=lambda *_: {"strength": 0.0},
    backbones=("tiny_unet",),
)
ALL = MethodSpec(name="perturbed_attention", params={"guidance_scale": 3.0})


def output(backbone: Backbone, strengths: dict[str, tuple[float, ...]]) -> torch.Tensor:
    x_t = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    cond = {"class": torch.tensor([0, 1])}
    return perturbed(Models(backbone), strengths).forward(x_t, torch.tensor([500.0, 90.0]), cond)


def test_everything_on_every_head_is_perturbed_attention(
    tiny_unet: Backbone, make_request: Any, render: Any
) -> None:
    soft = MethodSpec(name="soft_perturbed_attention", params={"strength": 1.0})
    base = {"class_name": "cat", "label": 0}
    one, other = (
        render(tiny_unet, [make_request(**base, guidance=spec)])[0].value for spec in (soft, ALL)
    )
    assert torch.equal(one, other)


def test_head_outputs_are_affine_in_the_strength() -> None:
    query, key, value = torch.randn(3, 2, 4, 9, 5)
    plain = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    shares = (0.0, 0.25, 0.5, 1.0)
    with MixWithValues(shares):
        mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    attention = (query @ key.transpose(-1, -2) / 5**0.5).softmax(-1)
    for head, share in enumerate(shares):
        matrix = (1 - share) * attention[:, head] + share * torch.eye(9)
        torch.testing.assert_close(mixed[:, head], matrix @ value[:, head], atol=1e-5, rtol=1e-5)
    assert torch.equal(mixed[:, 0], plain[:, 0])


def test_attention_to_other_sequences_stays() -> None:
    query, key, value = torch.randn(1, 2, 4, 5), torch.randn(1, 2, 7, 5), torch.randn(1, 2, 7, 5)
    plain = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    with MixWithValues((1.0, 1.0)):
        other = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    assert torch.equal(plain, other)


def test_only_the_heads_that_are_named_change(tiny_unet: Backbone) -> None:
    heads = self_attentions(tiny_unet)[MIDDLE]
    assert heads == 2
    none, one, both = (
        output(tiny_unet, {MIDDLE: shares}) for shares in ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))
    )
    plain = tiny_unet.forward(
        torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)),
        torch.tensor([500.0, 90.0]),
        {"class": torch.tensor([0, 1])},
    )
    torch.testing.assert_close(none, plain, atol=1e-6, rtol=0)
    assert not torch.allclose(one, plain, atol=1e-4)
    assert not torch.allclose(one, both, atol=1e-4)


def test_mistakes_are_found(tiny_unet: Backbone, tmp_path: Any) -> None:
    models = Models(tiny_unet)
    with pytest.raises(ConfigError, match=rf"heads\.0: '{MIDDLE}:2' .*{MIDDLE}:1"):
        SoftPerturbedAttention(heads=(f"{MIDDLE}:2",)).check(models)
    with pytest.raises(ConfigError, match="not both"):
        SoftPerturbedAttention(heads=(f"{MIDDLE}:1",), selection="x").check(models)
