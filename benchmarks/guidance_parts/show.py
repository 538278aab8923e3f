"""The results as a Markdown table, a Pareto plot, and a page of pictures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.guidance_parts.beds import Bed, few_shot
from benchmarks.guidance_parts.measure import LEVELS, Effort, make
from curriculum.compare import estimate
from generators.registry import MethodSpec

Row = Mapping[str, Any]
HEADS = (
    "| method | parameters | evaluations | ms | accuracy | FD | precision | recall | coverage "
    "| diversity | like the source at 40 %, 70 % | few-shot | against cfg |"
)


def against(rows: Sequence[Row], row: Row) -> str:
    """Few-shot accuracy minus that of `cfg` at scale 2, paired by replicate."""
    if "few_shot" not in row:
        return ""
    wanted = [
        r for r in rows if r["method"] == "cfg" and r["parameters"] == {"guidance_scale": 2.0}
    ]
    same = [r for r in wanted if all(r[k] == row[k] for k in ("generator", "budget"))]
    if not same or same[0] is row:
        return ""
    found = estimate([a - b for a, b in zip(row["few_shot"], same[0]["few_shot"], strict=True)])
    interval = f" [{found.ci95[0]:+.1f}, {found.ci95[1]:+.1f}]" if found.ci95 else ""
    return f"{found.mean:+.1f}{interval}"


def table(rows: Sequence[Row]) -> str:
    """One table a generator and budget, the best few-shot accuracy first."""
    lines: list[str] = []
    kinds = dict.fromkeys((row["generator"], row["budget"]) for row in rows)
    for generator, budget in kinds:
        mine = [r for r in rows if (r["generator"], r["budget"]) == (generator, budget)]
        mine.sort(key=lambda row: -np.mean(row.get("few_shot", [0])))
        lines += ["", f"**{generator}, {budget}**", "", HEADS, "| --- " * 13 + "|"]
        lines += [_line(rows, row) for row in mine]
    return "\n".join([*lines, ""])


def _line(rows: Sequence[Row], row: Row) -> str:
    params = json.dumps(row["parameters"], separators=(",", ":")).replace('"', "").strip("{}")
    alike = ", ".join(
        f"{row['similarity'].get(str(level), float('nan')):.2f}" for level in LEVELS[1:]
    )
    learned = f"{np.mean(row['few_shot']):.1f}" if "few_shot" in row else ""
    cells = [
        f"`{row['method']}`",
        params.replace("|", "/")[:90],
        f"{row['evaluations_per_image']:.1f}",
        f"{1000 * row['seconds_per_image']:.1f}",
        f"{row['accuracy']:.1f}",
        f"{row['frechet']:.2f}",
        *(f"{row[name]:.2f}" for name in ("precision", "recall", "coverage")),
        f"{row['diversity']:.3f}",
        alike,
        learned,
        against(rows, row),
    ]
    return "| " + " | ".join(cells) + " |"


def pareto(rows: Sequence[Row], path: Path) -> None:
    """Few-shot accuracy, and class accuracy, against evaluations an image."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    generators = list(dict.fromkeys(row["generator"] for row in rows))
    figure, axes = plt.subplots(
        len(generators), 2, figsize=(13, 5 * len(generators)), squeeze=False, layout="constrained"
    )
    for line, generator in zip(axes, generators, strict=True):
        mine = [row for row in rows if row["generator"] == generator and "few_shot" in row]
        for axis, measure in zip(line, ("few-shot accuracy, %", "Fréchet distance"), strict=True):
            for row in mine:
                cost = 1000 * row["seconds_per_image"]
                value = np.mean(row["few_shot"]) if "few" in measure else row["frechet"]
                marker = "o" if row["budget"] == "equal steps" else "^"
                colour = "tab:red" if row["method"] in ("none", "cfg") else "tab:blue"
                axis.plot(cost, value, marker, color=colour, alpha=0.7)
                axis.annotate(
                    row["method"].partition(":")[2] or row["method"], (cost, value), size=5
                )
            axis.set(xlabel="ms an image", ylabel=measure, title=generator, xscale="log")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def page(bed: Bed, cases: Sequence[tuple[str, Mapping[str, Any]]], steps: int, path: Path) -> None:
    """All methods on the same sources and noises: a row a method, three levels a source."""
    from PIL import Image, ImageDraw

    real = few_shot(bed, 1, 0)
    side, zoom, label = bed.backbone.pixel_shape[1], max(1, 24 // bed.backbone.pixel_shape[1]), 190
    cell = side * zoom + 2
    columns = len(real.labels) * len(LEVELS)
    sheet = Image.new("L", (label + columns * cell, (len(cases) + 1) * cell + 4), 255)
    draw = ImageDraw.Draw(sheet)
    effort = Effort(steps=steps, per_class=1, seeds=1, replicates=1, updates=0)

    def put(row: int, column: int, pixels: Any) -> None:
        gray = ((pixels[0].clamp(-1, 1) + 1) * 127.5).byte().numpy()
        image = Image.fromarray(gray).resize((side * zoom,) * 2, Image.Resampling.NEAREST)
        sheet.paste(image, (label + column * cell, row * cell))

    draw.text((4, 4), f"source; {', '.join(map(str, LEVELS))} %", fill=0)
    for source in range(len(real.labels)):
        put(0, source * len(LEVELS), real.pixels[source])
    for row, (name, params) in enumerate(cases, start=1):
        draw.text((4, row * cell + 4), name.partition(":")[2] or name, fill=0)
        made = make(bed, MethodSpec(name=name, params=dict(params)), real, effort, 0)
        places = zip(made.sources.tolist(), made.levels.tolist(), made.images.pixels, strict=True)
        for source, level, pixels in places:
            put(row, source * len(LEVELS) + LEVELS.index(level), pixels)
    sheet.save(path)
