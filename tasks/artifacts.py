"""What Prefect's interface shows of a run: progress, comparison, pictures, where the report is."""

import base64
import io
import math
import re
import time
from collections import defaultdict
from typing import Any

from PIL import Image
from prefect import get_run_logger
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext

from infra.gauge import Counters, as_line, as_table, combined
from infra.progress import Stage
from infra.report.saved import load_facts
from infra.report.strips import Strip, gallery
from infra.storage.manifest import read_manifest
from infra.storage.runs import RunStore

UPDATE_SECONDS = 5.0  # an update costs about 20 ms
NOTE_SECONDS = 1.0
PICTURE_SIDE = 64


class ProgressArtifact:
    """A stage that also moves a progress artifact of the flow run. Made inside a flow."""

    def __init__(self, shown: Stage, name: str, total: int) -> None:
        self._shown, self._total, self._done = shown, max(1, total), 0
        self._updated, self._noted = time.monotonic(), -math.inf
        key = re.sub(r"[^a-z0-9]+", "-", name.lower())
        self._key, self._gauges = key, defaultdict[str, dict[object, Counters]](dict)
        self._artifact: Any = create_progress_artifact(progress=0.0, key=key, description=name)

    def advance(self, units: int) -> None:
        """`units` more are done."""
        self._shown.advance(units)
        self._done += units
        if time.monotonic() - self._updated >= UPDATE_SECONDS:
            self.update()

    def gauge(self, worker: str, job: object, counters: Counters) -> None:
        """What a job on a worker has counted so far; its last word counts."""
        self._gauges[worker][job] = counters
        if time.monotonic() - self._noted >= NOTE_SECONDS:
            self._note()

    def note(self, text: str) -> None:
        """Words for the display."""
        self._shown.note(text)

    def _note(self) -> None:
        """Adds up all jobs there have been: too long to do at every word of a thousand workers."""
        self._noted = time.monotonic()
        self._shown.note(as_line(self._combined()))

    def update(self) -> None:
        """Tells Prefect."""
        if self._gauges:
            self._note()
        self._updated = time.monotonic()
        percent = min(100.0, 100.0 * self._done / self._total)
        update_progress_artifact(self._artifact, progress=percent)
        if gauge := self._combined():
            create_table_artifact(
                key=f"{self._key}-speed",
                table=as_table(gauge),
                description="All workers together; see the report for what the rows mean.",
            )

    def _combined(self) -> dict[str, float]:
        return combined([list(jobs.values()) for jobs in list(self._gauges.values())])


def tell_prefect(text: str) -> None:
    """A line in the log of the flow run; nothing outside of one."""
    if FlowRunContext.get() is not None:
        get_run_logger().info(text)


def publish_artifacts(store: RunStore, result: dict[str, Any]) -> None:
    """Comparison and classes as tables, picture strip and link of a finished run."""
    create_table_artifact(
        key="comparison",
        table=[
            {"arm": name, **{metric: _rounded(value) for metric, value in arm["mean"].items()}}
            for name, arm in result["arms"].items()
        ],
        description="Mean over seeds on the test images.",
    )
    create_table_artifact(
        key="classes",
        table=[
            {"class": one["name"], **{name: one[name] for name in ("shots", "real", "synthetic")}}
            | {arm: _rounded(one[arm]) for arm in ("baseline", "curriculum")}
            for one in result["classes"]
        ],
        description="Training images, real and accepted synthetic; accuracy without and with.",
    )
    create_link_artifact(key="report", link=(store.report / "index.html").as_uri())
    manifest, real = read_manifest(store.manifest), read_manifest(store.real_manifest)
    strips = gallery(store, load_facts(store), manifest, real).strips
    if strips:
        names = ", ".join(strip.class_name for strip in strips)
        create_image_artifact(
            key="strips",
            image_url=f"data:image/png;base64,{base64.b64encode(draw(strips)).decode()}",
            description=f"Source, then its levels from high to low image guidance: {names}",
        )


def draw(strips: tuple[Strip, ...]) -> bytes:
    """PNG of the strips, one a row."""
    width = max(len(strip.pictures) for strip in strips)
    sheet = Image.new("RGB", (width * PICTURE_SIDE, len(strips) * PICTURE_SIDE), "white")
    for row, strip in enumerate(strips):
        for column, picture in enumerate(strip.pictures):
            if picture.uri:
                data = base64.b64decode(picture.uri.partition(",")[2])
                image = Image.open(io.BytesIO(data)).convert("RGB")
                side = (PICTURE_SIDE - 2, PICTURE_SIDE - 2)
                resized = image.resize(side, Image.Resampling.NEAREST)
                sheet.paste(resized, (column * PICTURE_SIDE, row * PICTURE_SIDE))
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    return stream.getvalue()


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
