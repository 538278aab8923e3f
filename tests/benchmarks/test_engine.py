"""The engine benchmark: both sides make the same images, counts are right, runs can go on."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from benchmarks.engine_parts import h100
from benchmarks.engine_parts.baselines import call_arguments, discl_loop, img2img
from benchmarks.engine_parts.measure import Results, compared, fastest, interleaved, ratios
from benchmarks.engine_parts.models import TINY, backbone_spec, load_pipeline, save_model
from benchmarks.engine_parts.ours import (
    base_shard,
    ingest,
    load,
    ready_programs,
    render,
    run_bare,
    run_engine,
    run_job,
    shards_of,
)
from benchmarks.engine_parts.tables import TARGETS, last_line, results_table
from benchmarks.engine_parts.together import bare_rate, engine_rate, next_window
from benchmarks.engine_parts.workload import (
    ALL_LEVELS,
    Recipe,
    pictures,
    prompt_of,
    requests_for,
    to_pixels,
    write_pictures,
)
from generators.backbones.base import Backbone
from generators.backbones.toy import Toy
from generators.engine import Engine
from generators.render import Job, Renderer
from infra.workers.base import WorkerContext
from tests.support.benchmark import quick_run

KEYS = {
    "engine_over_bare_large",
    "engine_over_bare_tiny",
    "over_diffusers_tiny",
    "over_diffusers_large",
    "over_discl_loop_tiny",
    "over_discl_loop_large",
    "mean_batch_fill",
    "two_actors_over_two_processes",
    "memory_growth",
}
TOY = Toy(means={"fox": [[0.0, 0.0]], "owl": [[1.0, 1.0]]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(TINY, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def backbone(folder: Path) -> Backbone:
    return load(backbone_spec(folder))


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Any:
    return load_pipeline(folder)


@pytest.fixture(scope="module")
def toy() -> Backbone:
    return TOY.load("cpu")


def test_the_pipeline_and_the_engine_make_the_same_latents(
    backbone: Backbone, pipeline: Any
) -> None:
    recipe = Recipe(levels=(10, 30, 50), steps=10, guidance_scale=7.5)
    images = pictures(3, TINY.image_size)
    requests = requests_for(list(images), recipe, backbone)
    latents = dict(zip(images, backbone.encode(to_pixels(list(images.values()))), strict=True))
    renderer = Renderer(backbone)
    programs = [
        renderer.program(
            Job(
                request=request,
                source=latents[request.source_key],
                cond=backbone.condition([request.prompt], [request.class_name])[0],
            )
        )
        for request in requests
    ]
    made = {done.key: done.value for done in Engine(backbone, 5).run(enumerate(programs))}
    for level in recipe.levels:
        rows = [row for row, request in enumerate(requests) if request.image_guidance == level]
        expected = pipeline(
            prompt=[requests[row].prompt for row in rows],
            image=torch.stack([latents[requests[row].source_key] for row in rows]),
            generator=[torch.Generator().manual_seed(requests[row].noise_seed) for row in rows],
            output_type="latent",
            **call_arguments(recipe, level),
        ).images
        ours = torch.stack([value for row in rows if (value := made[row]) is not None])
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(ours / scale, expected / scale, atol=1e-4, rtol=0)


def test_our_images_are_the_decoded_samples_in_the_order_of_the_requests(
    backbone: Backbone,
) -> None:
    recipe = Recipe(levels=(90, 50), steps=10, guidance_scale=7.5)
    images = pictures(5, TINY.image_size)
    requests = requests_for(list(images), recipe, backbone)
    packed = render(backbone, requests, images, 16)
    assert len(packed) == 10
    for request, image in zip(requests[3:5], packed[3:5], strict=True):
        (alone,) = render(backbone, [request], images, 1)
        difference = to_pixels([image]) - to_pixels([alone])
        assert float(difference.abs().max()) <= 1.01 / 127.5


def test_the_loop_calls_the_pipeline_once_an_image_and_level(pipeline: Any, tmp_path: Path) -> None:
    recipe = Recipe(levels=(50, 90), steps=10, guidance_scale=10.0)
    files = write_pictures(tmp_path / "in", 0, 2, TINY.image_size)
    made = list(discl_loop(pipeline, files, recipe, TINY.image_size, tmp_path / "out"))
    assert [path.name for path in made] == [
        "00000-50.png",
        "00000-10.png",
        "00001-50.png",
        "00001-10.png",
    ]
    source = Image.open(files[1]).convert("RGB").resize((64, 64))
    expected = pipeline(
        prompt=prompt_of(1),
        image=source,
        strength=0.1,
        num_inference_steps=10,
        guidance_scale=10.0,
        generator=torch.Generator().manual_seed(1),
    ).images[0]
    assert list(Image.open(made[3]).getdata()) == list(expected.getdata())


def test_the_pipeline_makes_every_image_in_calls_of_a_batch(pipeline: Any) -> None:
    recipe = Recipe(levels=(90,), steps=10, guidance_scale=7.5)
    made = img2img(pipeline, list(pictures(5, 64).values()), recipe, 90, 2)
    assert [image.size for image in made] == [(64, 64)] * 5


def test_the_job_stores_every_image(folder: Path, backbone: Backbone, tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 0, 2, TINY.image_size)
    rows = ingest(tmp_path / "in", TINY.image_size, tmp_path / "real")
    recipe = Recipe(levels=ALL_LEVELS, steps=10, guidance_scale=10.0)
    requests = requests_for(sorted(rows), recipe, backbone)
    base = base_shard(backbone_spec(folder), 16, tmp_path, rows)
    shards = shards_of("shard", requests, 8, base)
    assert [len(shard.requests) for shard in shards] == [8, 8, 4]
    assert run_job(WorkerContext(device="cpu", threads=1), shards) == 20


def test_the_engine_is_measured_on_all_rows_and_the_bare_network_on_at_least_as_many(
    toy: Backbone,
) -> None:
    recipe = Recipe(levels=(10, 50), steps=10, guidance_scale=7.5)
    requests = requests_for(["a", "b", "c"], recipe, toy)
    assert run_engine(Engine(toy, 8), ready_programs(toy, requests)) == 3 * 2 * (9 + 5)
    assert run_bare(toy, 8, 84) == 88


def test_rates_are_those_of_a_window(toy: Backbone) -> None:
    for rate in (
        lambda window: engine_rate(toy, 8, 10, window),
        lambda window: bare_rate(toy, 8, window),
    ):
        window = next_window(0.2)
        assert rate(window) > 0
        assert window.end <= time.time() < window.end + 5


def test_operations_of_stable_diffusion() -> None:
    """0.803e12 a row is what fvcore reports for this UNet; 0.339e12 multiply-adds in layers."""
    cost = h100.sd_15()
    assert cost.row == pytest.approx(0.803e12, rel=0.01)
    assert cost.decode == pytest.approx(2.5e12, rel=0.02)
    assert cost.mean_rows == 2 * (45 + 35 + 25) / 3
    seconds = cost.floor_seconds(0.5)
    assert seconds == pytest.approx((70 * cost.row + cost.decode + cost.encode / 3) / 494.7e12)


def test_parameters_of_the_configs_are_the_published_ones() -> None:
    from diffusers import AutoencoderKL, FluxTransformer2DModel, UNet2DConditionModel

    with torch.device("meta"):
        networks = [
            (UNet2DConditionModel(**h100.SD_15), 859_520_964),
            (UNet2DConditionModel(**h100.SDXL), 2_567_463_684),
            (FluxTransformer2DModel(**h100.FLUX), 11_901_408_320),
            (AutoencoderKL(**h100.VAE), 83_653_863),
        ]
    for network, expected in networks:
        assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_host_work_costs_time_only_beyond_the_device_s() -> None:
    assert h100.reached(2e-3, 1e-3, 0.97) == pytest.approx(0.97)
    assert h100.reached(1e-3, 2e-3, 1.0) == pytest.approx(0.5)
    text = h100.table([h100.sd_15()], 0.5, 1e-4, 0.97)
    assert "| SD 1.5 | 512 | 0.80 | 70 |" in text
    assert text.splitlines()[-1].endswith("| 97.0% |")


def test_sides_take_turns() -> None:
    order: list[str] = []

    def side(name: str, units: int) -> Callable[[int], float]:
        def run(repetition: int) -> float:
            order.append(f"{name}{repetition}")
            time.sleep(0.01)
            return units

        return run

    seconds = interleaved({"a": side("a", 1), "b": side("b", 1000)}, 2, time.perf_counter)
    assert order == ["a0", "b0", "a1", "b1"]
    assert all(ratio > 20 for ratio in ratios(seconds["a"], seconds["b"]))


def test_the_fastest_batch_size_is_chosen() -> None:
    def work(size: int) -> float:
        time.sleep(0.01 if size == 2 else 0.1)
        return 1

    assert fastest((1, 2, 3), work, time.perf_counter)[0] == 2
    assert fastest((7,), work, time.perf_counter) == (7, {})


def test_finished_cases_are_not_measured_again(tmp_path: Path) -> None:
    path, runs = tmp_path / "results" / "engine.json", []

    def measure() -> dict[str, Any]:
        runs.append(1)
        return {"a": compared([2.0, 4.0, 3.0], "numbers", batch_size=8)}

    Results(path, {"threads": 1}, resume=True).case("first", measure)
    again = Results(path, {"threads": 1}, resume=True)
    again.case("first", measure)
    assert len(runs) == 1
    assert again.measurements["a"]["ratio"] == 3
    assert again.measurements["a"]["ratios"]["max"] == 4
    for facts, resume in (({"threads": 1}, False), ({"threads": 2}, True)):
        other = Results(path, facts, resume=resume)
        assert other.measurements == {}


def test_the_last_line_has_the_promised_keys() -> None:
    measurements = {target.name: compared([target.value], "") for target in TARGETS}
    assert set(json.loads(last_line(measurements))) == KEYS
    assert results_table(measurements).row_count == len(TARGETS)
    met = {target.name for target in TARGETS if target.met_by(target.value)}
    assert met == {target.name for target in TARGETS} - {"memory_growth"}


@pytest.mark.slow
def test_the_quick_run_measures_everything(tmp_path: Path) -> None:
    output = tmp_path / "engine.json"
    printed = quick_run("benchmarks.engine", output)
    found = json.loads(printed.splitlines()[-1])
    assert set(found) == KEYS
    assert all(found[key] > 0 for key in KEYS - {"memory_growth"})
    stored = json.loads(output.read_text())
    thorough = ("compiled_", "lazy_")  # what only the full run has time for
    assert set(stored["measurements"]) == {
        target.name for target in TARGETS if not target.name.startswith(thorough)
    }
    assert stored["facts"]["torch_threads"] == 1
