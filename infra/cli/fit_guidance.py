"""`discl fit-guidance`: what a guidance method learns or searches before it is used."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from generators.registry import MethodSpec, build
from infra.config import RunConfig
from infra.config.load import override
from infra.jobs.fit_guidance import FitGuidance, fit_guidance
from infra.progress import Stage, board_for
from infra.workers.base import Progress
from infra.workers.local import LocalPool


def fit_and_tell(
    config: RunConfig,
    method: str,
    parameters: list[str],
    output: Path | None,
    max_images: int,
    device: str,
) -> None:
    """Fits in this process and says what to write into a config."""
    params: dict[str, Any] = override({}, parameters)
    spec = MethodSpec(name=method, params=params)
    build("guidance_fit", spec, method)
    path = output or Path(f"{method}.safetensors")
    job = FitGuidance(
        config=config, method=spec, path=path, max_images=max_images, seed=config.data.seed
    )
    done = 0
    stage: Stage | None = None
    with ExitStack() as shown, LocalPool(device=device).lease() as worker:
        board = shown.enter_context(board_for(Console(stderr=True)))

        def show(progress: Progress) -> None:
            nonlocal done, stage
            if stage is None:
                stage = shown.enter_context(board.stage(f"fit {method}", progress.total, "steps"))
            if "loss" in progress.gauge:
                stage.note(f"loss {progress.gauge['loss']:.4g}")
            stage.advance(progress.done - done)
            done = progress.done

        worker.run(fit_guidance, job, on_progress=show)
    print(path)
