"""Guidance that is fitted first, from a config to images."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from generators.errors import ConfigError, UserError
from generators.registry import MethodSpec
from infra.cli.app import app
from infra.jobs.dataset import select
from infra.jobs.fit_guidance import FitGuidance, chosen, fit_guidance
from infra.jobs.inspect import inspect_backbone
from infra.storage.manifest import read_manifest
from tests.infra.jobs.world import (
    BACKBONE,
    config_for,
    context,
    generate,
    prepare,
    run,
    write_images,
)

LEVELS = "generation.levels=[0, 50]"


def test_rare_classes_are_read_in_full_before_others_are_read_twice(tmp_path: Path) -> None:
    write_images(tmp_path, {"across": 40, "rare": 4, "upright": 20})
    selection = select(config_for(tmp_path).data)
    labels = selection.images.labels[chosen(selection, 13, seed=0)]
    assert np.bincount(labels).tolist() == [5, 3, 5]
    assert chosen(selection, 13, seed=0) == chosen(selection, 13, seed=0)
    assert len(chosen(selection, 1000, seed=0)) == len(selection.split["train"])


def test_a_fit_is_used_by_a_run_and_its_bytes_are_part_of_every_key(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    config = config_for(tmp_path / "images", LEVELS)
    keys = []
    for trajectories in (5, 9):
        path = tmp_path / "linear.safetensors"
        job = FitGuidance(
            config=config,
            method=MethodSpec(name="linear_adaptive", params={"num_trajectories": trajectories}),
            path=path,
            max_images=10,
            seed=0,
        )
        assert run(fit_guidance, job) == path
        guidance = f"generation.guidance={{name: linear_adaptive, coefficients: {path}}}"
        world = prepare(tmp_path / "images", tmp_path / f"run-{trajectories}", LEVELS, guidance)
        generate(world)
        rows = read_manifest(world.store.manifest).to_pylist()
        assert {row["status"] for row in rows} == {"ok"}
        keys.append({row["key"] for row in rows if row["image_guidance"] < 100})
    assert keys[0].isdisjoint(keys[1])


def test_a_fit_for_other_levels_is_refused_before_any_work(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    path = tmp_path / "linear.safetensors"
    job = FitGuidance(
        config=config_for(tmp_path / "images", LEVELS),
        method=MethodSpec(name="linear_adaptive", params={"num_trajectories": 5}),
        path=path,
        max_images=10,
        seed=0,
    )
    run(fit_guidance, job)
    guidance = f"generation.guidance={{name: linear_adaptive, coefficients: {path}}}"
    other = config_for(tmp_path / "images", "generation.levels=[0, 20]", guidance)
    assert other.generation.backbone is not None
    with pytest.raises(ConfigError, match=r"guidance\.coefficients: .* fit it again"):
        run(inspect_backbone, other.generation.backbone, other, False)


def test_a_guidance_refuses_samplers_that_it_does_not_fit(tmp_path: Path) -> None:
    write_images(tmp_path)
    for guidance in ("cfg_pp", "[cfg_pp]"):
        config = config_for(
            tmp_path, f"generation.guidance={guidance}", "generation.sampler=dpm_solver_pp_2m"
        )
        assert config.generation.backbone is not None
        with pytest.raises(ConfigError, match=r"generation\.sampler: .* ddim or euler_ancestral"):
            run(inspect_backbone, config.generation.backbone, config, False)


def test_a_generator_that_a_run_trains_is_asked_for(tmp_path: Path) -> None:
    write_images(tmp_path)
    config = config_for(tmp_path, "generation.backbone=null", "generation.fit={steps: 1}")
    job = FitGuidance(
        config=config,
        method=MethodSpec(name="minority"),
        path=tmp_path / "x",
        max_images=10,
        seed=0,
    )
    with pytest.raises(ConfigError, match=r"generation\.backbone: None .* folder for pixel_unet"):
        list(fit_guidance(context(), job))


def test_the_command_prints_the_file_and_names_mistakes(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    config = {
        "name": "tiny",
        "data": {
            "source": {"name": "folder", "path": str(tmp_path / "images")},
            "channels": 1,
            "image_size": 8,
        },
        "generation": {"backbone": BACKBONE, "levels": [0, 50]},
        "curriculum": {"schedule": "fixed_stages"},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    out = tmp_path / "minority.safetensors"
    words = ["fit-guidance", "minority", str(tmp_path / "config.yaml"), "-o", str(out)]
    quick = ["-m", "steps=2", "-m", "num_bins=3", "-m", "num_draws=1"]
    done = CliRunner().invoke(app, [*words, *quick, "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(out)
    assert out.is_file()
    wrong = CliRunner().invoke(app, [*words, "-m", "bins=3"])
    assert wrong.exit_code == 2
    assert "minority.bins: 3 is not allowed" in wrong.stderr
    unknown = CliRunner().invoke(app, ["fit-guidance", "minorty", *words[2:]])
    assert unknown.exit_code == 2
    assert "did you mean 'minority'?" in unknown.stderr


def test_a_guider_of_diffusers_may_stand_in_a_config(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    guidance = "{name: 'diffusers:ClassifierFreeGuidance', guidance_scale: 2.0}"
    same = "{name: cfg, guidance_scale: 2.0}"
    made = []
    for name, text in (("theirs", guidance), ("ours", same)):
        world = prepare(tmp_path / "images", tmp_path / name, LEVELS, f"generation.guidance={text}")
        generate(world)
        rows = read_manifest(world.store.manifest).to_pylist()
        assert {row["status"] for row in rows} == {"ok"}
        made.append(sorted((row["label"], row["num_model_calls"]) for row in rows))
    assert made[0]
    assert made[0] == made[1]


def test_a_grid_of_scales_is_one_run(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    grid = "generation.guidance_grid={guidance_scale: [1.0, 2.0]}"
    cfg = "generation.guidance=cfg"
    world = prepare(tmp_path / "images", tmp_path / "run", LEVELS, cfg, grid)
    generate(world)
    rows = read_manifest(world.store.manifest).to_pylist()
    scales = [json.loads(row["guidance"])["guidance_scale"] for row in rows]
    assert scales.count(1.0) == scales.count(2.0) == len(rows) / 2
    for row, scale in zip(rows, scales, strict=True):  # scale 1 is one evaluation a step
        steps = row["num_inference_steps"] * (100 - row["image_guidance"]) // 100
        assert row["num_model_calls"] == steps * scale
    with_grid, without = (config_for(tmp_path / "images", cfg, *g) for g in ([grid], []))
    assert "guidance_grid" not in without.identity()["generation"]
    assert with_grid.fingerprint() != without.fingerprint()
    for mistake, match in (
        ("{guidance_scale: [1, 101]}", "guidance_scale"),
        ("{scale: [1]}", "guidance_scale"),
        ("{guidance_scale: []}", "none twice"),
    ):
        with pytest.raises(UserError, match=match):
            config_for(tmp_path / "images", cfg, f"generation.guidance_grid={mistake}")
