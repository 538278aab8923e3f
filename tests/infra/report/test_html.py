import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from infra.report import pictures
from infra.report.html import write_report
from infra.report.pictures import EMBED_SIDE
from infra.storage.manifest import read_manifest
from infra.storage.reader import ShardReader
from infra.storage.runs import RunStore
from infra.storage.shards import ShardMember, read_rows, write_shard
from tests.infra.report import example_run
from tests.infra.report.conftest import HOSTILE, Written

VOID = {"meta", "img", "link", "br", "hr", "input"}
LINKS = {"src", "href", "srcset", "action", "data", "poster", "xlink:href", "background"}


class Page(HTMLParser):
    """Reads a page strictly: tags must match; collects what the tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def page(written: Written) -> Page:
    return Page(written.text)


def test_nothing_is_fetched(page: Page, written: Written) -> None:
    for tag, attrs in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "embed", "base"}
        assert not any(name.startswith("on") for name in attrs)
        for name in LINKS & set(attrs):
            value = attrs[name] or ""
            assert value.startswith(("#", "data:image/")), (tag, name, value)
    style = re.findall(r"<style>(.*?)</style>", written.text, re.DOTALL)
    assert len(style) == 1
    assert "@import" not in style[0]
    assert "url(" not in style[0]
    assert "http" not in re.sub(r"http-equiv", "", written.text)


def test_every_link_and_reference_has_its_target(page: Page, written: Written) -> None:
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    targets = {attrs["href"] for _, attrs in page.tags if "href" in attrs}
    targets |= {f"#{name}" for name in re.findall(r"url\(#([^)]+)\)", written.text)}
    assert {target for target in targets if target} <= {f"#{name}" for name in ids}


def test_all_sections_are_there_and_linked(page: Page) -> None:
    sections = [attrs.get("id") for attrs in page.of("section")]
    assert sections == [
        "run",
        "comparison",
        "classes",
        "images",
        "levels",
        "curriculum",
        "generator",
        "time",
        "real-images",
        "reproduce",
    ]
    assert [f"#{name}" for name in sections] == [attrs["href"] for attrs in page.of("a")]


def test_images_and_figures_have_texts(page: Page) -> None:
    assert all(attrs.get("alt") for attrs in page.of("img"))
    figures = page.of("svg")
    assert all(attrs.get("role") == "img" and attrs.get("aria-label") for attrs in figures)
    # two gains, classes, histogram, acceptance, two scores, two ribbons, two losses
    assert len(figures) == 11


def test_figures_follow_the_colours_of_the_page(written: Written) -> None:
    figures = re.findall(r"<svg.*?</svg>", written.text, re.DOTALL)
    for figure in figures:
        assert not re.findall(r"#[0-9a-f]{6}\b", figure)
        assert "font:" not in figure
    used = set(re.findall(r"var\(--([a-z0-9-]+)\)", written.text))
    defined = set(re.findall(r"--([a-z0-9-]+):", written.text))
    assert used <= defined


def test_hostile_names_stay_text(page: Page, written: Written) -> None:
    for name in ("<script>", "onerror=alert(1)>", "</svg><img", "</style></"):
        assert name not in written.text
    shown = page.text
    for name in HOSTILE:
        assert re.sub(r"\s+", " ", name) in shown
    assert "49" not in re.findall(r"\d+", " ".join(page.words[:20]))
    unreadable = example_run.UNREADABLE
    assert unreadable in shown
    assert unreadable not in written.text


def test_strips_hold_source_and_all_levels_descending(written: Written) -> None:
    strips = re.findall(r'<div class="strip">.*?</div>\s*</div>', written.text, re.DOTALL)
    assert len(strips) == 5  # the few-shot classes
    for strip in strips:
        found = re.findall(r'<span class="level">.*?</span>', strip, re.DOTALL)
        levels = [re.sub(r"<i.*?</i>|<span.*?>|</span>", "", text) for text in found]
        assert levels == ["source", "80 %", "60 %", "40 %", "20 %", "0 %"]
        # one image may never have been made; its place is kept
        assert strip.count("<img ") + strip.count("not made") == 6
    assert 'class="pixelated"' in strips[0]


def test_strips_show_the_stored_bytes_of_one_source_and_seed(written: Written) -> None:
    strip = re.findall(r'<div class="strip">.*?</div>\s*</div>', written.text, re.DOTALL)[0]
    shown = [base64.b64decode(data) for data in re.findall(r"base64,([^\"]+)", strip)]
    manifest = read_manifest(written.store.manifest).to_pylist()
    real = {row["key"]: row for row in read_manifest(written.store.real_manifest).to_pylist()}
    own = [row for row in manifest if row["label"] == 9]
    first = min((row["source_key"], row["seed"]) for row in own)
    rows = [row for row in own if (row["source_key"], row["seed"]) == first]
    rows.sort(key=lambda row: -row["image_guidance"])
    made, sources = ShardReader(written.store.generated), ShardReader(written.store.real)
    expected = [_read(sources, real[first[0]]), *(_read(made, row) for row in rows)]
    assert shown == expected
    with Image.open(io.BytesIO(shown[0])) as image:
        assert image.size == (8, 8)


def _read(reader: ShardReader, row: dict[str, object]) -> bytes:
    return reader.read(str(row["shard"]), int(str(row["offset"])), int(str(row["size"])))


def test_rejected_examples_carry_reason_and_count(page: Page, written: Written) -> None:
    refused = sum(
        row["status"] == "filtered" for row in read_manifest(written.store.manifest).to_pylist()
    )
    assert f"Rejected: low class probability {refused}" in page.text
    assert "Failed: not finite 1" in page.text
    assert f"{99 - refused} of 100 images were accepted, {refused} refused by a judge" in page.text


def test_facts_of_the_run_are_shown(page: Page, written: Written) -> None:
    shown = page.text
    assert written.facts.command in shown
    assert written.facts.config.fingerprint() in shown
    assert "num_inference_steps: 20" in shown  # the config
    assert "Handwritten digits of MNIST" in shown
    assert "95.1 %" in shown
    assert "unreadable image: 1" in shown
    assert "2 400 model evaluations (24.2 an image)" in shown
    assert "Example CPU" in shown


def test_same_run_same_bytes(written: Written) -> None:
    before = {path.name: path.read_bytes() for path in written.store.report.iterdir()}
    assert set(before) == {"index.html", "result.json"}
    write_report(written.store, written.facts)
    assert {path.name: path.read_bytes() for path in written.store.report.iterdir()} == before


def test_no_gain_another_arm_and_no_judges(tmp_path_factory: pytest.TempPathFactory) -> None:
    example = example_run.Example(judges=False, levels=(0, 100))
    store = example_run.make(tmp_path_factory.mktemp("run"), example)
    few = {"baseline": (80.0, 82.0, 84.0), "curriculum": (82, 80, 84.5), "mixed": (90, 92, 94)}
    shown = Page(write_report(store, example_run.facts(example, few)).read_text()).text
    shown = shown.replace("\u00a0", " ")
    assert "No gain shown, another arm is better" in shown
    assert "No gain is shown: the curriculum changes accuracy on few-shot classes" in shown
    assert "Another arm is better: mixed reaches 92.0 %" in shown
    assert "100 %" in shown


def test_many_classes_in_one_figure(tmp_path_factory: pytest.TempPathFactory) -> None:
    counts = tuple(max(1, 60 - index) for index in range(60))
    names = tuple(f"class {index}" for index in range(60))
    example = example_run.Example(counts=counts, class_names=names, few_below=3, per_class=1)
    store = example_run.make(tmp_path_factory.mktemp("run"), example)
    few = {"baseline": (80.0, 82.0), "curriculum": (82, 83.5), "mixed": (84, 85)}
    page = Page(write_report(store, example_run.facts(example, few)).read_text())
    assert "class, the largest first" in page.text
    assert "class 59" in page.text  # the table


@pytest.mark.parametrize(("side", "embedded"), [(EMBED_SIDE, EMBED_SIDE), (400, EMBED_SIDE)])
def test_large_images_are_scaled_down(
    tmp_path_factory: pytest.TempPathFactory, side: int, embedded: int
) -> None:
    store = RunStore(tmp_path_factory.mktemp("run"))
    pixels = np.zeros((side, side, 3), np.uint8)
    data = example_run.encode(pixels)
    member = ShardMember(key="k", image=data, extension="png", label=0, info={"key": "k"})
    row = example_run.real_row("k", "train", 0, example_run.Example(), "k", data)
    write_shard(store.real, "s", [member], pa.Table.from_pylist([row]))
    stored = read_rows(store.real, "s").to_pylist()[0]
    picture = pictures.real_picture(ShardReader(store.real), stored)
    assert not picture.pixelated
    head, _, text = picture.uri.partition(",")
    assert head == ("data:image/png;base64" if side == embedded else "data:image/jpeg;base64")
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        assert image.size == (embedded, embedded)
