"""Looks at the backbone before any image is made."""

from prefect import task

from generators.registry import MethodSpec
from infra.config import RunConfig
from infra.jobs.inspect import BackboneFacts, inspect_backbone
from tasks.gather import gather
from tasks.runtime import run_job, stage
from tasks.settings import RETRIED, opaque, worker_died


@task(name="inspect-backbone", retries=3, retry_condition_fn=worker_died, **RETRIED)
def inspect_task(
    config: RunConfig, backbone: MethodSpec, class_names: tuple[str, ...]
) -> BackboneFacts:
    """Loads the network on a worker, which keeps it."""
    return run_job(inspect_backbone, backbone, config, False, class_names)


def inspect(
    config: RunConfig, backbone: MethodSpec, class_names: tuple[str, ...] = ()
) -> BackboneFacts:
    """Facts of the backbone of a run; errors before any work if it does not fit the classes."""
    with stage("load generator", 1, "networks"):
        submitted = inspect_task.submit(opaque(config), opaque(backbone), opaque(class_names))
        (facts,) = gather([submitted])
    found: BackboneFacts = facts
    return found
