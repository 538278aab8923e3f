import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from generators.errors import ConfigError
from generators.records import (
    GenerationRequest,
    ImageInputs,
    check_image_guidance,
    num_denoising_steps,
)
from generators.registry import MethodSpec, canonical_json, content_hash

Make = Callable[..., GenerationRequest]

CHANGES: dict[str, Any] = {
    "source_key": "source-2",
    "source_sha256": "1" * 64,
    "label": 2,
    "class_name": "left",
    "prompt": "a photo",
    "image_guidance": 1,
    "seed": 1,
    "num_inference_steps": 11,
    "guidance": MethodSpec(name="none", params={"x": 1}),
    "sampler": MethodSpec(name="ddim", params={"eta": 0.5}),
    "backbone": "other",
    "image_inputs": ImageInputs(control="edges"),
}


def test_key_changes_with_every_field(make_request: Make) -> None:
    assert CHANGES.keys() == {field.name for field in dataclasses.fields(GenerationRequest)}
    keys = {make_request(**{name: value}).key for name, value in CHANGES.items()}

    assert len(keys | {make_request().key}) == len(CHANGES) + 1
    assert all(len(key) == 32 and int(key, 16) >= 0 for key in keys)


def test_key_does_not_depend_on_the_order_of_parameters(make_request: Make) -> None:
    first = make_request(sampler=MethodSpec(name="ddim", params={"eta": 0.5, "clip_sample": True}))
    second = make_request(sampler=MethodSpec(name="ddim", params={"clip_sample": True, "eta": 0.5}))

    assert first.key == second.key


def test_key_and_noise_are_the_same_in_another_process(make_request: Make) -> None:
    request = make_request(class_name="Füchsin", image_guidance=30)
    program = (
        "import json, sys; from generators.records import GenerationRequest as R;"
        "r = R.from_json(json.load(sys.stdin)); print(r.key, r.noise_seed)"
    )
    printed = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {program}"],
        input=json.dumps(request.as_json()),
        env={"PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert printed.split() == [request.key, str(request.noise_seed)]


def test_key_is_the_sha256_of_known_text(make_request: Make) -> None:
    """Pinned: a change here makes every finished image of every user stale."""
    assert make_request().key == "551199d91a2fd6837c93bdabe960a376"
    assert canonical_json({"b": [1, 0.5], "a": "é"}) == '{"a":"\\u00e9","b":[1,0.5]}'
    assert content_hash([]) == "4f53cda18c2baa0c0354bb5f9a3ecbe5"


def test_json_round_trip_keeps_the_key(make_request: Make) -> None:
    request = make_request(guidance=MethodSpec(name="cfg", params={"guidance_scale": 2.5}))
    back = GenerationRequest.from_json(json.loads(json.dumps(request.as_json())))

    assert back == request
    assert back.key == request.key


def test_all_levels_of_a_source_and_seed_share_their_noise(make_request: Make) -> None:
    seeds = {make_request(image_guidance=level).noise_seed for level in (0, 10, 50, 90, 100)}

    assert len(seeds) == 1
    assert 0 <= seeds.pop() < 2**63
    assert make_request(seed=1).noise_seed != make_request().noise_seed
    assert make_request(source_key="b").noise_seed != make_request().noise_seed


@pytest.mark.parametrize("steps", [1, 7, 20, 50, 999])
def test_steps_of_a_level_are_exact(steps: int) -> None:
    for level in range(101):
        kept = num_denoising_steps(steps, level)
        # floor without floats: the largest k with 100 k <= steps (100 - level)
        assert 100 * kept <= steps * (100 - level) < 100 * (kept + 1)


def test_ninety_percent_of_fifty_steps_is_five_not_four() -> None:
    assert int(50 * (1 - 0.9)) == 4
    assert num_denoising_steps(50, 90) == 5


@pytest.mark.parametrize("level", [-1, 101, 0.5, 50.0, True, "50", None])
def test_levels_that_are_no_percent_are_refused(level: Any, make_request: Make) -> None:
    with pytest.raises(ConfigError, match=r"levels\[1\]: .* integer percent"):
        check_image_guidance(level, "levels[1]")
    with pytest.raises(ConfigError, match="image_guidance"):
        make_request(image_guidance=level)
