"""Numbers and methods in words. Plain text: escaping is the template's affair."""

from collections.abc import Mapping

from curriculum.compare import Comparison, Estimate
from generators.registry import JsonValue, MethodSpec, describe
from infra.config.training import ArmConfig

METRIC_NAMES = {
    "all": "All",
    "balanced": "Balanced",
    "many": "Many",
    "medium": "Medium",
    "few": "Few",
    "macro_f1": "Macro F1",
    "ece": "ECE",
}
ACCURACY_OF = {"few": "accuracy on few-shot classes", "all": "overall accuracy"}
WHERE = {"few": "few-shot classes", "all": "all test images"}
MINUS = "−"
SPACE = "\u00a0"  # does not tear a unit from its number at the end of a line
PERCENT = f"{SPACE}%"
NOTHING = "–"


def number(value: float | None, digits: int = 1) -> str:
    """A number with a true minus sign; a dash for None."""
    if value is None:
        return NOTHING
    text = f"{abs(value):.{digits}f}"
    return MINUS + text if value < 0 and float(text) else text


def signed(value: float | None, digits: int = 1) -> str:
    """A number with its sign, also where it is positive."""
    text = number(value, digits)
    return text if value is None or text.startswith(MINUS) or not float(text) else f"+{text}"


def digits_of(metric: str) -> int:
    """Decimals a metric is shown with."""
    return 3 if metric == "ece" else 1


def interval(estimate: Estimate, digits: int = 1) -> str:
    """`low to high`, or an empty text with one seed."""
    if estimate.ci95 is None:
        return ""
    low, high = estimate.ci95
    return f"{number(low, digits)} to {number(high, digits)}"


def points(comparison: Comparison) -> str:
    """A difference of accuracies with its interval: `+1.2 points (95 % interval 0.3 to 2.1)`."""
    difference = comparison.difference
    text = f"{signed(difference.mean)} points"
    return f"{text} (95{PERCENT} interval {interval(difference)})" if difference.ci95 else text


def from_to(comparison: Comparison) -> str:
    """`from 84.2 to 96.5 %`, from the reference to the arm."""
    before, after = comparison.baseline.mean, comparison.arm.mean
    return f"from {number(before)} to {number(after)}{PERCENT}"


def count(value: int) -> str:
    """A whole number, thousands apart by narrow spaces."""
    return f"{value:,}".replace(",", "\u202f")


def duration(seconds: float) -> str:
    """Seconds as people say them: `3.2 s`, `2 min 05 s`, `4 h 07 min`."""
    if seconds < 99.95:
        return f"{seconds:.1f}{SPACE}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}{SPACE}min{SPACE}{whole % 60:02d}{SPACE}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}{SPACE}h{SPACE}{minutes % 60:02d}{SPACE}min"


def rate(value: float | None) -> str:
    """Units a second, with at least two digits that count."""
    return number(value, 1 if value is None or value >= 1 else 2)


def price(value: float | None) -> str:
    """An amount of money without its currency: two decimals, below one three digits."""
    if value is None:
        return NOTHING
    return f"{value:,.2f}" if value >= 1 or value == 0 else f"{value:.3g}"


def reason(code: str) -> str:
    """A reason code in words."""
    return code.replace("_", " ") or "unknown"


def method(spec: MethodSpec, family: str = "") -> str:
    """A method with its parameters: `cfg (guidance_scale 2)`; with a family, without defaults."""
    values = spec.params
    if family:
        defaults = {one.name: one.default for one in describe(family, spec.name).parameters}
        values = {name: value for name, value in values.items() if value != defaults.get(name)}
    params = plain_items(values)
    return f"{spec.name} ({params})" if params else spec.name


def plain_items(values: Mapping[str, JsonValue]) -> str:
    """A mapping in a line; a `name` comes first and bare."""
    named = [str(values["name"])] if "name" in values else []
    others = [f"{name} {_plain(value)}" for name, value in values.items() if name != "name"]
    return ", ".join([*named, *others])


def arm(config: ArmConfig) -> str:
    """What an arm is trained on."""
    params = config.schedule.params
    levels = _plain(params.get("levels", "all"))
    texts = {
        "none": "real images only",
        "fixed_stages": f"levels {levels} one after the other, {params.get('order', 'ascending')}",
        "mixed": f"levels {levels} mixed in every epoch",
        "single": f"level {params.get('level')} in every epoch",
    }
    parts = [texts.get(config.schedule.name, method(config.schedule))]
    if params.get("real_percent"):
        parts.append(f"the last {params['real_percent']} % real images only")
    if config.tail_share is not None:
        repeated = " (repeated)" if config.schedule.name == "none" else ""
        parts.append(f"hard classes{repeated} {100 * config.tail_share:.0f} % of an epoch")
    if config.head_keep < 1:
        parts.append(f"{100 * config.head_keep:.0f} % of the other images kept")
    if config.loss is not None:
        parts.append(f"loss {method(config.loss, 'loss')}")
    return "; ".join(parts)


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:g}".replace("-", MINUS) if isinstance(value, float) else str(value)
    return str(value)
