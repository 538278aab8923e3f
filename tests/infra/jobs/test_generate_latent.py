"""Shards of a latent diffusion model: text, autoencoder and all, through the whole job."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infra.jobs.generate import generate_shards
from infra.jobs.shard_work import GenerateShard
from infra.storage.shards import read_rows
from tests.infra.jobs.world import contents, context, prepare, run


@pytest.fixture(scope="module")
def shards(
    tmp_path_factory: pytest.TempPathFactory, tiny_sd_folder: Path
) -> tuple[GenerateShard, ...]:
    """Shards of three classes at two levels: three prompts, 26 sources."""
    root = tmp_path_factory.mktemp("latent")
    for name, count in {"fox": 6, "owl": 4, "wolf": 5}.items():
        (root / "images" / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.random.default_rng([len(name), index]).integers(0, 256, (40, 32, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(root / "images" / name / f"{index}.png")
    world = prepare(
        root / "images",
        root / "run",
        f"generation.backbone={{name: stable_diffusion, path: {tiny_sd_folder}}}",
        "data.channels=3",
        "data.image_size=32",
        "hard_set.threshold=20",
        "generation.levels=[0, 50]",
        "generation.target.per_class=4",
        "generation.guidance.guidance_scale=4",
    )
    return world.shards


def files(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if "cost" not in name}


def test_bytes_do_not_depend_on_packing_caches_or_company(
    shards: tuple[GenerateShard, ...], tmp_path: Path
) -> None:
    assert len({request.prompt for shard in shards for request in shard.requests}) == 3

    def moved(name: str) -> tuple[GenerateShard, ...]:
        return tuple(replace(shard, folder=tmp_path / name) for shard in shards)

    run(generate_shards, moved("together"))
    warm = context()
    for shard in moved("one by one, caches warm")[::-1]:
        run(generate_shards, (shard,), worker=warm)
    for shard in moved("alone"):
        run(generate_shards, (shard,))

    together = files(tmp_path / "together")
    assert len(together) == 2 * len(shards)
    assert together == files(tmp_path / "one by one, caches warm") == files(tmp_path / "alone")


def test_images_have_the_size_of_the_network_and_rows_their_prompts(
    shards: tuple[GenerateShard, ...], tmp_path: Path
) -> None:
    (made,) = run(generate_shards, (replace(shards[0], folder=tmp_path),))
    assert made.ref.num_samples == len(shards[0].requests)
    rows = read_rows(tmp_path, shards[0].name).to_pylist()
    assert {row["prompt"] for row in rows} <= {f"a photo of a {n}" for n in ("fox", "owl", "wolf")}
    steps = 4 * (100 - rows[0]["image_guidance"]) // 100
    assert {row["num_model_calls"] for row in rows} == {2 * steps}
