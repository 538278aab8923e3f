"""The exception tree of the project.

DisclError
├── UserError                 a mistake of the user; exit code 2, before any work starts
│   ├── ConfigError           a field, its value and what is allowed
│   ├── DataError             a data set that cannot be used as described
│   ├── CheckpointError       a model folder or file that cannot be loaded
│   └── OutputError           the output folder cannot be used (another config, no space)
└── SampleRejected            one image or request ends with a reason code: a manifest row

`infra.errors` adds what can go wrong around the core (workers, interrupted runs).
"""

import math
from collections.abc import Iterable
from difflib import get_close_matches


class DisclError(Exception):
    """Base of every error this project raises on purpose."""


class UserError(DisclError):
    """A mistake in a config, a data set or an argument. The command line exits with code 2."""


class ConfigError(UserError):
    """A config field with a value that is not allowed.

    Args:
        field: dotted path of the field, e.g. `generation.guidance.guidance_scale`.
        value: what was given.
        allowed: what is allowed, in words.
    """

    def __init__(self, field: str, value: object, allowed: str) -> None:
        super().__init__(field, value, allowed)
        self.field, self.value, self.allowed = field, value, allowed

    def __str__(self) -> str:
        return f"{self.field}: {self.value!r} is not allowed; expected {self.allowed}"


class DataError(UserError):
    """A data set that cannot be used as described."""


class CheckpointError(UserError):
    """A model folder or file that is missing, incomplete or of another family."""


class OutputError(UserError):
    """An output folder that cannot be used: it belongs to another config, or the disk is full."""


class SampleRejected(DisclError):
    """Ends one image or request.

    Args:
        reason: code for the manifest, `[a-z_]+`, e.g. `unreadable_image`.
        detail: one line for humans.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


def check_loss(loss: float, learning_rate: float, precision: str, when: str) -> None:
    """Ends a training whose loss is no number any more.

    Raises:
        ConfigError: it is infinite or NaN; names `learning_rate`, and what else it may come from.
    """
    if not math.isfinite(loss):
        other = "" if precision == "float32" else f", or precision float32 instead of {precision}"
        allowed = f"a smaller value{other}: the loss became {loss} {when}"
        raise ConfigError("learning_rate", learning_rate, allowed)


def one_of(names: Iterable[str], given: str = "") -> str:
    """Lists allowed names for an error message, the closest to `given` first."""
    known = sorted(names)
    close = get_close_matches(given, known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return "one of " + ", ".join(repr(name) for name in known) + hint
