"""Numbers and methods in words. Plain text: escaping is the template's affair."""

from curriculum.compare import Comparison, Estimate
from generators.registry import MethodSpec
from infra.config.schema import ArmConfig

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
MINUS = "−"
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


def half_width(low: float, high: float, digits: int = 1) -> str:
    """`± half` of an interval."""
    return f"± {number((high - low) / 2, digits)}"


def points(comparison: Comparison) -> str:
    """A difference of accuracies with its interval: `+1.2 points (95 % interval 0.3 to 2.1)`."""
    difference = comparison.difference
    text = f"{signed(difference.mean)} points"
    return f"{text} (95 % interval {interval(difference)})" if difference.ci95 else text


def from_to(comparison: Comparison) -> str:
    """`from 84.2 % to 96.5 %`, from the reference to the arm."""
    before, after = comparison.baseline.mean, comparison.arm.mean
    return f"from {number(before)} % to {number(after)} %"


def count(value: int) -> str:
    """A whole number, thousands apart by narrow spaces."""
    return f"{value:,}".replace(",", "\u202f")


def duration(seconds: float) -> str:
    """Seconds as people say them: `3.2 s`, `2 min 05 s`, `4 h 07 min`."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def reason(code: str) -> str:
    """A reason code in words."""
    return code.replace("_", " ") or "unknown"


def method(spec: MethodSpec) -> str:
    """A method with its parameters: `cfg (guidance_scale 2)`."""
    params = ", ".join(f"{name} {_plain(value)}" for name, value in spec.params.items())
    return f"{spec.name} ({params})" if params else spec.name


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
    if config.tail_share is not None:
        repeated = " (repeated)" if config.schedule.name == "none" else ""
        parts.append(f"hard classes{repeated} {100 * config.tail_share:.0f} % of an epoch")
    if config.head_keep < 1:
        parts.append(f"{100 * config.head_keep:.0f} % of the other images kept")
    if config.loss is not None:
        parts.append(f"loss {method(config.loss)}")
    return "; ".join(parts)


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
