"""Writes the report of a run: `index.html`, which needs no other file, and `result.json`."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from generators.places import Place
from infra.report import wording
from infra.report.facts import RunFacts
from infra.report.page import make_page
from infra.report.result import make_result
from infra.storage.atomic import write_bytes, write_json
from infra.storage.manifest import read_manifest
from infra.storage.runs import RunStore

FOLDER = Path(__file__).parent


def write_report(store: RunStore, facts: RunFacts) -> Place:
    """Writes `report/result.json` and `report/index.html`, each whole or not at all.

    The same run gives the same bytes.

    Returns:
        The page.

    Raises:
        DataError: a manifest or a shard is missing or damaged.
        OutputError: the disk is full, or the folder cannot be written.
    """
    manifest, real = read_manifest(store.manifest), read_manifest(store.real_manifest)
    result = make_result(facts, manifest, real)
    page = make_page(store, facts, manifest, real)
    text = environment().get_template("template.html").render(page)
    write_json(store.report / "result.json", result)
    path = store.report / "index.html"
    write_bytes(path, text.encode())
    return path


def environment() -> Environment:
    """Templates with everything escaped that is not a figure or the style sheet."""
    found = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "number": wording.number,
        "signed": wording.signed,
        "count": wording.count,
        "duration": wording.duration,
        "rate": wording.rate,
        "reason": wording.reason,
        "price": wording.price,
    }
    found.globals["style"] = Markup((FOLDER / "style.css").read_text())
    return found
