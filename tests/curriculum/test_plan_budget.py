"""A plan of ten million requests takes seconds and little memory."""

import subprocess
import sys

import pytest

PLANNING = """
import sys, time
import numpy as np
from benchmarks.peak import peak_bytes
from curriculum.plan import RequestTemplate, SourceImages, make_plan
from generators.records import num_denoising_steps
from generators.registry import MethodSpec
count, classes, per_class = 200_000, 1_000, int(sys.argv[1])
sources = SourceImages(
    keys=[f"{i:016x}" for i in range(count)],
    sha256=[f"{i:064x}" for i in range(count)],
    labels=np.arange(count) % classes,
)
template = RequestTemplate(
    class_names=tuple(f"class {i}" for i in range(classes)),
    prompt="a photo of a {class_name}",
    num_inference_steps=50,
    guidance=MethodSpec(name="cfg", params={"guidance_scale": 2.0}),
    sampler=MethodSpec(name="ddim"),
    backbone="f" * 32,
)
started = time.process_time()
plan = make_plan(sources, [0, 20, 40, 60, 80], np.full(classes, per_class), template)
assert sum(int(found.sum()) for found in plan.counts().values()) == len(plan)
calls = plan.num_model_calls(2.0, num_denoising_steps)
assert calls == classes * per_class * (50 + 40 + 30 + 20 + 10) * 2
images = sum(len(rows) for _, rows in plan.shard_rows(1_000))
print(images, time.process_time() - started)
print(peak_bytes())
"""


@pytest.mark.parametrize(
    ("per_class", "most_seconds"), [(100, 2), pytest.param(2_000, 20, marks=pytest.mark.slow)]
)
def test_ten_million_requests_take_seconds_and_little_memory(
    per_class: int, most_seconds: float
) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PLANNING, str(per_class)], capture_output=True, text=True, check=True
    )
    images, seconds, peak_bytes = (float(word) for word in run.stdout.split())
    assert images == per_class * 1_000 * 5
    assert seconds < most_seconds
    assert peak_bytes < 2 * 2**30
