"""One written report that many tests look at."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.report.facts import RunFacts
from infra.report.html import write_report
from infra.storage.runs import RunStore
from tests.infra.report import example_run

HOSTILE = (
    "<script>alert(1)</script>",
    "a & b \"quoted\" 'x'",
    "$\\frac{x$",
    "日本の猫",
    "x" * 60,
    "\x07bell\nline",
    "</svg><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}",
    "café",
    "</style>",
)


@dataclass(frozen=True, kw_only=True)
class Written:
    """A run and its report."""

    store: RunStore
    facts: RunFacts
    path: Path
    text: str


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A run with a clear gain whose class names are hostile text."""
    example = example_run.Example(class_names=HOSTILE)
    store = example_run.make(tmp_path_factory.mktemp("run"), example)
    few = {"baseline": (80.0, 82.0, 84.0), "curriculum": (90, 94, 95), "mixed": (85, 85.5, 86)}
    facts = example_run.facts(example, few)
    path = write_report(store, facts)
    return Written(store=store, facts=facts, path=path, text=path.read_text())
