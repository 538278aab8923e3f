"""The config of the workers: where the work runs, and how many share it."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from generators.errors import ConfigError
from infra.config.section import Positive, Section, collected


class WorkerGroup(Section):
    """Equal workers."""

    count: Positive | None = Field(None, description="workers; default: GPUs, else CPUs")
    threads: Positive | None = Field(
        None, description="CPU threads each; default: an even share; local: OMP_NUM_THREADS, or all"
    )
    gpus: Annotated[float, Field(ge=0)] | None = Field(
        None, description="GPUs each, may be a fraction; default: 1 where there are GPUs"
    )
    resources: dict[str, Annotated[float, Field(gt=0)]] = Field(
        {}, description="other Ray resources each, e.g. {'accelerator_type:A100': 0.01}"
    )

    @field_validator("gpus")
    @classmethod
    def _gpus(cls, value: float | None) -> float | None:
        with collected("gpus"):
            if value is not None and value > 1 and value != int(value):
                raise ConfigError("gpus", value, "a whole number, or a part of one GPU")
        return value


class WorkersConfig(WorkerGroup):
    """Where the work runs. Not part of a run's identity: results do not depend on it.

    But for rounding, where several processes train one classifier.
    """

    kind: Literal["ray", "local"] = Field("ray", description="Ray actors, or in this process")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="where networks run; auto: the GPU, where a worker has one"
    )
    groups: tuple[WorkerGroup, ...] = Field(
        (), description="workers of several kinds, e.g. a group an accelerator; instead of count"
    )
    autoscale: bool = Field(
        False, description="machines for the workers may still have to come; needs their count"
    )
    address: str | None = Field(None, description="Ray cluster ('auto'); default: a local Ray")
    pool_limit: str | None = Field(
        None, description="a Prefect global concurrency limit; each worker occupies a slot"
    )
    price_per_hour: Annotated[float, Field(ge=0)] | None = Field(
        None, description="of one worker, in any currency: what accepted images cost is reported"
    )
    stall_seconds: Positive = Field(1800, description="a worker silent for longer is replaced")
    wait_seconds: Positive = Field(
        1800, description="without any worker for longer, e.g. on a full cluster, the run fails"
    )
    retries: Annotated[int, Field(ge=0)] = Field(
        2, description="of a unit whose worker died; then its images are given up, as failed"
    )
    processes_per_training: Positive = Field(
        1,
        description="workers that train one classifier together, through Ray Train; batch_size "
        "stays the whole batch",
    )

    @model_validator(mode="after")
    def _groups(self) -> Self:
        with collected("groups"):
            alone = (self.count, self.threads, self.gpus, self.resources or None)
            if self.groups and any(value is not None for value in alone):
                allowed = "groups alone: count, threads, gpus and resources stand in each of them"
                raise ConfigError("groups", [group.model_dump() for group in self.groups], allowed)
        return self

    @model_validator(mode="after")
    def _team(self) -> Self:
        wanted, counts = self.processes_per_training, [g.count for g in self.groups or (self,)]
        known = [count for count in counts if count is not None]
        with collected("workers"):
            if wanted > 1 and self.kind != "ray":
                allowed = "1 with local workers; several are Ray's"
                raise ConfigError("workers.processes_per_training", wanted, allowed)
            if len(known) == len(counts) and wanted > max(known):
                allowed = f"at most {max(known)}, the workers there are of one kind"
                raise ConfigError("workers.processes_per_training", wanted, allowed)
        return self
