from typing import Any

import pytest
import torch

from generators.backbones.toy import GaussianMixture
from generators.errors import ConfigError
from generators.guidance.together import Together
from generators.registry import MethodSpec
from tests.support.beds import run_bed, values
from tests.support.guidance import Laws, given

LAWS = Laws(
    grid=given(
        {"methods": [{"name": "cfg", "guidance_scale": 3.0}]},
        {"methods": [{"name": "cfg_pp", "guidance_scale": 0.5}]},
    ),
    off=lambda *_: {"methods": [{"name": "cfg", "guidance_scale": 1.0}]},
)


def test_one_alone_is_itself(mixture: GaussianMixture) -> None:
    spec: dict[str, Any] = {"name": "cfg", "guidance_scale": 3.0}
    ours = run_bed(mixture, Together(methods=[spec]), count=20, steps=10)
    cfg = run_bed(mixture, MethodSpec(name="cfg", params={"guidance_scale": 3.0}), 1, 20, 10)
    assert torch.equal(values(ours), values(cfg))
    assert ours[0].num_model_calls == cfg[0].num_model_calls


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ([{"name": "cfg"}, {"name": "cfg_pp"}], "one of cfg, cfg_pp: each of them decides alone"),
        ([{"name": "cfg"}, {"name": "cfg"}], r"methods\.1: 'cfg' .* each method once"),
        ([{"name": "none"}, {"name": "cfg"}], "none alone"),
        ([{"name": "together", "methods": [{"name": "cfg"}]}, {"name": "cfg"}], "together alone"),
        ([{"name": "cgf"}], r"methods\.0: 'cgf' .*'cfg'"),
        ([{"guidance_scale": 2}], "a method: {name"),
        ([{"name": "cfg", "guidance_scale": -1}], r"methods\.0\.guidance_scale: -1"),
    ],
)
def test_what_cannot_be_joined_is_refused_with_the_reason(
    methods: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Together(methods=methods)
