"""Figures as inline SVG that follows the page: its fonts, its colours, light and dark.

Matplotlib draws with stand-in colours; they become CSS variables. The same figure gives the same
text on every run.
"""

import io
import re
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

UNITS_PER_INCH: Final = 72  # matplotlib's SVG unit is the point, so figures are sized in them
WIDTH: Final = 420
"""Of a figure that takes half of the page."""
THIRD: Final = 300
FULL: Final = 840

NUM_LEVEL_COLORS: Final = 9
NUM_ARM_COLORS: Final = 6
VARIABLES: Final = (
    "ink",
    "muted",
    "line",
    "surface",
    "accent",
    "baseline",
    "good",
    "bad",
    "real",
    "on-light",
    *(f"level-{index}" for index in range(NUM_LEVEL_COLORS)),
    *(f"arm-{index}" for index in range(NUM_ARM_COLORS)),
)
COLORS: Final[Mapping[str, str]] = {
    name: f"#{index:02x}fe{index:02x}" for index, name in enumerate(VARIABLES, 1)
}
"""CSS variable of the page to the stand-in that matplotlib draws with."""

STYLE: Final[dict[Any, Any]] = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 10.5,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10.5,
    "legend.fontsize": 10,
    "text.parse_math": False,
    "text.color": COLORS["ink"],
    "axes.labelcolor": COLORS["muted"],
    "axes.edgecolor": COLORS["line"],
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "axes.unicode_minus": True,
    "grid.color": COLORS["line"],
    "grid.linewidth": 0.8,
    "xtick.color": COLORS["line"],
    "xtick.labelcolor": COLORS["muted"],
    "ytick.color": COLORS["line"],
    "ytick.labelcolor": COLORS["ink"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "diffusion-curriculum",
}


@contextmanager
def drawing(height: float, width: float = WIDTH) -> Generator[tuple[Figure, Axes]]:
    """A figure with one plot, sized in CSS pixels; draw and convert it inside the block."""
    with rc_context(STYLE):
        figure = Figure(figsize=(width / UNITS_PER_INCH, height / UNITS_PER_INCH))
        FigureCanvasSVG(figure)
        figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02)
        yield figure, figure.add_subplot()


def to_svg(figure: Figure, name: str, alternative: str) -> Markup:
    """Inline SVG.

    Args:
        figure: drawn inside `drawing`.
        name: unique on the page, `[a-z0-9-]+`.
        alternative: text for those who do not see it.
    """
    stream = io.StringIO()
    with warnings.catch_warnings():
        # Names of classes may be in any script. The page's fonts draw them, not matplotlib's.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r' xmlns(:\w+)?="[^"]*"', "", body)
    body = body.replace("xlink:href=", "href=")
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'href="#', f'href="#{name}-', body)
    body = re.sub(r"url\(#", f"url(#{name}-", body)
    body = re.sub(r"font: (?:(bold|\d+) )?([\d.]+)px [^;\"]*", _font, body)
    for variable, color in COLORS.items():
        body = body.replace(color, f"var(--{variable})")
    head, _, rest = body.partition(">")
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None
    opening = f'<svg {box[0]} role="img" aria-label="{escape(alternative)}" class="figure"'
    return Markup(f"{opening}>{rest.strip()}")


def level_color(level: int, levels: tuple[int, ...]) -> str:
    """Stand-in colour of an image-guidance level: its rank among the levels; 100 is the real."""
    if level == 100:
        return COLORS["real"]
    return COLORS[level_variable(level, levels)]


def text_on_level(level: int, levels: tuple[int, ...]) -> str:
    """Stand-in colour of text on a level's colour; the lower half of the levels is light."""
    variable = level_variable(level, levels)
    light = variable in {f"level-{index}" for index in range(NUM_LEVEL_COLORS // 2)}
    return COLORS["on-light" if light else "surface"]


def level_variable(level: int, levels: tuple[int, ...]) -> str:
    """CSS variable of a level's colour, without the dashes."""
    ordered = [other for other in sorted(levels) if other != 100]
    if level == 100 or level not in ordered:
        return "real"
    rank = ordered.index(level) / max(1, len(ordered) - 1)
    return f"level-{round(rank * (NUM_LEVEL_COLORS - 1))}"


def label(text: str, longest: int = 22) -> str:
    """A name fit for a figure: one line, no control characters, not too long."""
    clean = "".join(char if char.isprintable() else " " for char in text)
    return clean if len(clean) <= longest else f"{clean[: longest - 1]}…"


def _font(found: re.Match[str]) -> str:
    weight = f"font-weight: {found[1]}; " if found[1] else ""
    return f"{weight}font-size: {found[2]}px"
