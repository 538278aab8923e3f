"""The documented schema of `result.json` (JSON Schema, draft 2020-12)."""

from typing import Any, Final

SCHEMA_VERSION: Final = 1

Schema = dict[str, Any]


def _object(required: dict[str, Schema], about: str, **optional: Schema) -> Schema:
    return {
        "type": "object",
        "description": about,
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


def _map(values: Schema, about: str) -> Schema:
    return {"type": "object", "description": about, "additionalProperties": values}


def _list(items: Schema, about: str) -> Schema:
    return {"type": "array", "description": about, "items": items}


def _number(about: str) -> Schema:
    return {"type": "number", "description": about}


def _number_or_null(about: str) -> Schema:
    return {"type": ["number", "null"], "description": about}


def _count(about: str) -> Schema:
    return {"type": "integer", "minimum": 0, "description": about}


def _text(about: str) -> Schema:
    return {"type": "string", "description": about}


REASONS: Final = _map(_count("images"), "reason code to number of images")

INTERVAL: Final[Schema] = {
    "type": ["array", "null"],
    "items": {"type": "number"},
    "minItems": 2,
    "maxItems": 2,
    "description": "95 % interval (Student's t over seeds), low and high; null with one seed",
}

METRIC_TEXTS: Final = {
    "all": "top-1 accuracy, percent",
    "balanced": "mean of the classes' accuracies, percent",
    "many": "mean accuracy of the many-shot classes, percent; null where there are none",
    "medium": "mean accuracy of the medium-shot classes, percent; null where there are none",
    "few": "mean accuracy of the few-shot classes, percent; null where there are none",
    "macro_f1": "mean of the classes' F1 scores, percent",
    "ece": "expected calibration error of the top-1 probability, 0..1, lower is better",
}

METRICS_SCHEMA: Final = _object(
    {name: _number_or_null(text) for name, text in METRIC_TEXTS.items()}, "means over seeds"
)

DIFFERENCE: Final = _object(
    {
        "mean": _number_or_null("mean of the differences paired by seed, in the metric's unit"),
        "ci95": INTERVAL,
        "verdict": {
            "enum": ["better", "no difference shown", "worse", "not measured"],
            "description": "better or worse only where the interval leaves out zero",
        },
    },
    "one arm minus another",
)

DIFFERENCES: Final = _object(dict.fromkeys(METRIC_TEXTS, DIFFERENCE), "by metric")

SEED: Final = _object(
    {
        "seed": _count("of the training"),
        **{name: _number_or_null(text) for name, text in METRIC_TEXTS.items()},
        "per_class": _list(
            _number_or_null("percent; null without test images"), "accuracy of each class, by label"
        ),
    },
    "one trained classifier",
)

ARM: Final = _object(
    {
        "mean": METRICS_SCHEMA,
        "std": _object(
            {name: _number_or_null("n - 1; null with one seed") for name in METRIC_TEXTS},
            "standard deviations over seeds",
        ),
        "ci95": _object(dict.fromkeys(METRIC_TEXTS, INTERVAL), "intervals of the means"),
        "seeds": _list(SEED, "in the order of seeds"),
    },
    "one way of feeding the classifier",
)

CLASS: Final = _object(
    {
        "name": _text("of the class"),
        "shots": {"enum": ["many", "medium", "few"]},
        "real": _count("real training images"),
        "synthetic": _count("accepted synthetic images"),
        "baseline": _number_or_null("accuracy, percent"),
        "curriculum": _number_or_null("accuracy, percent"),
        "gain": DIFFERENCE,
    },
    "one class",
)

COST: Final[dict[str, Schema]] = {
    "accepted": _count("images that are kept"),
    "worker_seconds": _number("of generating workers, refused and failed images included"),
    "model_evaluations": _count("rows that the network evaluated for them"),
    "price": _number_or_null("by workers.price_per_hour, in its currency; null without one"),
    "per_accepted": _object(
        {
            "worker_seconds": _number_or_null("null where no image was accepted"),
            "model_evaluations": _number_or_null("null where no image was accepted"),
            "price": _number_or_null("null where no image was accepted, or without a price"),
        },
        "the same for one accepted image",
    ),
}
GUIDANCE: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 100}
COSTS: Final = _object(
    {
        **COST,
        "levels": _list(
            _object({"image_guidance": GUIDANCE, **COST}, "one level"), "ascending by guidance"
        ),
    },
    "what generating the synthetic images cost; judging and training are not in it",
)

LEVEL: Final = _object(
    {
        "image_guidance": GUIDANCE,
        "requested": _count("images"),
        "accepted": _count("images"),
        "rejected": REASONS,
        "failed": _count("images that could not be made"),
        "scores": _map(_number("mean over the images made"), "judges' scores"),
    },
    "one image-guidance level, percent: 100 is the real image, 0 a start from pure noise",
)

RESULT_SCHEMA: Final[Schema] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Result of a run of diffusion-curriculum",
    **_object(
        {
            "schema_version": {"const": SCHEMA_VERSION},
            "name": _text("of the run"),
            "config_hash": _text("content hash of everything the results depend on"),
            "command": _text("to do it again"),
            "baseline": METRICS_SCHEMA,
            "curriculum": METRICS_SCHEMA,
            "arms": _map(ARM, "all arms by name, `baseline` and `curriculum` among them"),
            "gain": DIFFERENCES,
            "gains": _map(DIFFERENCES, "every other arm minus the baseline"),
            "curriculum_over": _map(
                DIFFERENCES, "the curriculum minus each arm it is compared to, beside the baseline"
            ),
            "best_arm_few": {
                "type": ["string", "null"],
                "description": "arm with the highest mean on few-shot classes; null without such",
            },
            "best_arm_all": _text("arm with the highest mean top-1 accuracy"),
            "seeds": _count("trainings of every arm"),
            "classes": _list(CLASS, "by label"),
            "images": _object(
                {
                    "requested": _count("synthetic images in the plan"),
                    "accepted": _count("made, and accepted by all judges"),
                    "rejected": REASONS,
                    "failed": _count("could not be made"),
                },
                "synthetic images",
            ),
            "levels": _list(LEVEL, "ascending"),
            "real_images": _object(
                {"used": _count("read and stored, all splits"), "rejected": REASONS},
                "real images",
            ),
            "seconds": _map(_number("wall clock"), "stage to seconds"),
            "machine": _map(_text("value"), "what it ran on"),
            "versions": _map(_text("version"), "package to version"),
        },
        "What a run reached. Accuracies are percents, differences percentage points.",
        cost=COSTS,
    ),
}
