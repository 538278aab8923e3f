"""Makes the synthetic images of a plan, shard by shard."""

from dataclasses import asdict
from typing import Any

from prefect import task

from curriculum.plan import GenerationPlan
from generators.registry import MethodSpec
from infra.config import RunConfig
from infra.jobs.dataset import Dataset
from infra.jobs.generate import GenerateShard, generate_shard
from infra.storage.shards import read_ref
from tasks.gather import gather
from tasks.runtime import run_job, runtime, stage
from tasks.settings import CACHED, RETRIED, opaque, worker_died


@task(
    name="generate-shard",
    cache_key_fn=lambda _, parameters: f"generate-{parameters['shard'].name}",
    retry_condition_fn=worker_died,
    **CACHED,
    **RETRIED,
)
def generate(shard: GenerateShard) -> dict[str, Any]:
    """Makes and stores one shard; returns what it is and what it cost."""
    return asdict(run_job(generate_shard, shard))


def generate_all(
    config: RunConfig, dataset: Dataset, plan: GenerationPlan, backbone: MethodSpec
) -> list[dict[str, Any]]:
    """Generates every shard that is not there yet."""
    store = runtime().store
    locations = dataset.locations()
    shards = [
        GenerateShard(
            name=name,
            requests=requests,
            backbone=backbone,
            batch_size=config.generation.batch_size,
            deterministic=config.generation.deterministic,
            folder=store.generated,
            real_folder=store.real,
            sources={request.source_key: locations[request.source_key] for request in requests},
            extension=config.shards.extension(config.data.image_size),
            jpeg_quality=config.shards.jpeg_quality,
        )
        for name, requests in plan.shards(config.shards.images_per_shard)
    ]
    with stage("generate", len(plan), "images"):
        return gather(
            generate.with_options(
                retries=runtime().workers.retries,
                refresh_cache=read_ref(store.generated, shard.name) is None,
                task_run_name=shard.name,
            ).submit(opaque(shard))
            for shard in shards
        )
