"""What a config accepts, and that every mistake is named: field, value, what is allowed."""

from collections.abc import Sequence
from typing import Any

import pytest

from generators.errors import UserError
from generators.registry import MethodSpec
from infra.config import FitConfig, RunConfig
from infra.config.load import override, validate

BASE: dict[str, Any] = {
    "data": {"source": "digits", "channels": 1, "image_size": 8},
    "generation": {
        "backbone": {"name": "pixel_unet", "path": "somewhere"},
        "levels": [60, 0, 20],
        "guidance": "cfg",
        "target": "match_many",
    },
    "curriculum": {"schedule": "fixed_stages"},
    "compare": {"even": {"schedule": "mixed"}},
}


def config(*changes: str) -> RunConfig:
    return validate(RunConfig, override(BASE, changes))


def mistakes(changes: Sequence[str]) -> list[str]:
    with pytest.raises(UserError) as caught:
        config(*changes)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("change", "path", "close"),
    [
        ("generaton.levels=[1]", "generaton", "generation"),
        ("generation.levls=[1]", "generation.levls", "levels"),
        ("data.long_tail={profil: exponential, max_count: 9}", "data.long_tail.profil", "profile"),
        ("generation.target={per_clas: 3}", "generation.target.per_clas", "per_class"),
        ("compare.even.tail_shar=0.5", "compare.even.tail_shar", "tail_share"),
        ("curriculum.head_keeps=0.5", "curriculum.head_keeps", "head_keep"),
        ("training.sedes=4", "training.sedes", "seeds"),
    ],
)
def test_an_unknown_key_at_any_depth_is_named_with_its_neighbours(
    change: str, path: str, close: str
) -> None:
    found = next(line for line in mistakes([change]) if "unknown key" in line)
    assert found.startswith(f"{path}: unknown key; allowed here: ")
    assert f"(did you mean {close!r}?)" in found


def test_allowed_keys_are_those_of_the_section_itself() -> None:
    (line,) = mistakes(["compare.even.foo=1"])
    assert line == (
        "compare.even.foo: unknown key; allowed here: added_count, augmentation, head_keep, loss, "
        "mixing, rebalancer, sampling, schedule, synthetic_weight, tail_share"
    )


def test_an_arm_that_counts_as_before_leaves_the_identity_as_it_was() -> None:
    def arms(*changes: str) -> list[Any]:
        data: Any = config(*changes).identity()
        return [data["curriculum"], *data["compare"].values()]

    assert all("added_count" not in arm for arm in arms())
    assert arms("curriculum.added_count=0.5")[0]["added_count"] == 0.5


@pytest.mark.parametrize(
    ("change", "start", "allowed"),
    [
        ("generation.guidance=cgf", "generation.guidance: 'cgf'", "did you mean 'cfg'?"),
        ("generation.guidance.scale=3", "generation.guidance.scale: 3", "'guidance_scale'"),
        (
            "generation.guidance.guidance_scale=-3",
            "generation.guidance.guidance_scale: -3",
            "expected greater than or equal to 0",
        ),
        ("data.source={a: 1}", "data.source: {'a': 1}", "name of a method"),
        ("generation.guidance=3", "generation.guidance: 3", "name of a method"),
        ("curriculum.schedule=mixd", "curriculum.schedule: 'mixd'", "did you mean 'mixed'?"),
        ("compare.even.schedule=mixd", "compare.even.schedule: 'mixd'", "'fixed_stages'"),
        ("compare.even.loss=foo", "compare.even.loss: 'foo'", "'cross_entropy'"),
        ("training.loss=foo", "training.loss: 'foo'", "'balanced_softmax'"),
        ("hard_set={name: few_shot, threshold: 0}", "hard_set.threshold: 0", "equal to 1"),
        (
            "hard_set={name: low_confidence, threshold: 0.5, fraction: 0.5}",
            "hard_set.fraction: 0.5",
            "null beside a threshold",
        ),
        ("data.source=digts", "data.source: 'digts'", "did you mean 'digits'?"),
        ("data.source={name: digits, foo: 3}", "data.source.foo: 3", "it has none"),
        (
            "filter.judges=[classifier, {name: classifier, min_probability: 2}]",
            "filter.judges.1.min_probability: 2",
            "less than or equal to 1",
        ),
        ("training.augment.degres=3", "training.augment.degres: 3", "did you mean 'degrees'?"),
        ("generation={fit: {stps: 1}, levels: [0]}", "generation.fit.stps: 1", "'steps'"),
    ],
)
def test_methods_and_their_parameters_are_checked_where_they_stand(
    change: str, start: str, allowed: str
) -> None:
    (line,) = mistakes([change])
    assert line.startswith(f"{start} is not allowed; ")
    assert allowed in line


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("training.epochs=0", "training.epochs: 0 is not allowed; expected greater than"),
        ("training.learning_rate=.inf", "training.learning_rate: inf is not allowed; expected a"),
        ("training.learning_rate=.nan", "training.learning_rate: nan is not allowed; expected"),
        ("training.precision=int8", "training.precision: 'int8' is not allowed; expected 'floa"),
        ("training.seeds=2.5", "training.seeds: 2.5 is not allowed; expected a valid integer"),
        ("data.channels=2", "data.channels: 2 is not allowed; expected 1 or 3"),
        ("data.seed=-1", "data.seed: -1 is not allowed; expected greater than or equal to 0"),
        ("data.val_percent=80", "data.val_percent: 80 is not allowed; expected less than 80"),
        ("data.few_below=101", "data.few_below: 101 is not allowed; expected at most many_abov"),
        ("data=null", "data: None is not allowed; expected a section (key: value)"),
        ("compare=[1]", "compare: [1] is not allowed; expected a section (key: value)"),
        ("filter.judges=classifier", "filter.judges: 'classifier' is not allowed; expected a li"),
        ("workers.kind=rya", "workers.kind: 'rya' is not allowed; expected 'ray' or 'local'"),
        ("workers.gpus=1.5", "workers.gpus: 1.5 is not allowed; expected a whole number, or"),
        ("generation.levels=[]", "generation.levels: [] is not allowed; expected at least one lev"),
        (
            "generation={}",
            "curriculum.schedule: 'fixed_stages' is not allowed; expected one of",
        ),
        ("generation.seed=4294967296", "generation.seed: 4294967296 is not allowed"),
        ("generation.prompt='a {x}'", "generation.prompt: 'a {x}' is not allowed; expected text"),
        ("generation.prompt='{class_name'", "generation.prompt: '{class_name' is not allowed"),
        ("name=../up", "name: '../up' is not allowed; String should match pattern"),
        ("compare={a/b: {schedule: none}}", "compare.a/b: 'a/b' is not allowed"),
        ("compare.baseline.schedule=none", "compare.baseline: 'baseline' is not allowed"),
        ("compare.curriculum.schedule=none", "compare.curriculum: 'curriculum' is not allowed"),
    ],
)
def test_values_out_of_range_are_refused(change: str, line: str) -> None:
    assert mistakes([change])[0].startswith(line)


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        (["workers.kind=local"], "1 with local workers"),
        (["workers.count=2"], "at most 2, the workers there are of one kind"),
        (["workers.groups=[{count: 2}, {count: 2}]"], "at most 2, the workers there are of one"),
        (["training.batch_size=32"], "a number that divides training.batch_size, 32"),
    ],
)
def test_teams_that_cannot_be_are_refused(changes: list[str], allowed: str) -> None:
    team = ["training.batch_size=63", "workers.processes_per_training=3"]
    assert config(*team).workers.processes_per_training == 3
    (line,) = mistakes([*team, *changes])
    assert line.startswith("workers.processes_per_training: 3 is not allowed; expected " + allowed)


@pytest.mark.parametrize("level", ["120", "-1", "0.5", "'50'", "50.0", "true", "null"])
def test_a_level_is_an_integer_percent_and_nothing_like_one(level: str) -> None:
    (line,) = mistakes([f"generation.levels=[0, {level}]"])
    assert line.startswith("generation.levels.1: ")
    assert line.endswith("an integer percent in 0..100 (100 = the real image)")


@pytest.mark.parametrize("levels", ["[]", "[20, 20]", "20", "null", "{a: 1}"])
def test_levels_are_a_list_without_repetitions(levels: str) -> None:
    (line,) = mistakes([f"generation.levels={levels}"])
    assert line.startswith("generation.levels: ")


def test_levels_are_sorted_and_given_to_schedules_that_name_none() -> None:
    made = config()
    assert made.generation.levels == (0, 20, 60)
    assert made.curriculum.schedule.params["levels"] == [0, 20, 60]
    assert made.compare["even"].schedule.params["levels"] == [0, 20, 60]


def test_a_schedule_keeps_the_levels_it_names_and_may_copy_real_images() -> None:
    made = config("curriculum.schedule.levels=[100, 20]")
    assert made.curriculum.schedule.params["levels"] == [20, 100]


@pytest.mark.parametrize("arm", ["curriculum", "compare.even"])
def test_a_schedule_cannot_name_a_level_that_is_not_generated(arm: str) -> None:
    (line,) = mistakes([f"{arm}.schedule.levels=[20, 30]"])
    assert line == (
        f"{arm}.schedule.levels: 30 is not allowed; "
        "expected levels of generation.levels [0, 20, 60]"
    )


def test_one_generator_is_needed_and_only_one() -> None:
    (neither,) = mistakes(["generation.backbone=null"])
    (both,) = mistakes(["generation.fit={}"])
    assert neither.startswith("generation.backbone: None is not allowed; ")
    assert both.startswith("generation.fit: ")
    assert both.endswith("`backbone` or `fit`, not both")
    fitted = config("generation.backbone=null", "generation.fit={steps: 7}").generation
    assert fitted.fit is not None
    assert fitted.fit["steps"] == 7
    assert fitted.fit["block_out_channels"] == [32, 64]


@pytest.mark.parametrize(
    ("target", "field", "value"),
    [
        ("match_many", "match_many", True),
        ("{match_many: true}", "match_many", True),
        ("{per_class: 7}", "per_class", 7),
        ("{factor: 1.5}", "factor", 1.5),
    ],
)
def test_the_three_targets(target: str, field: str, value: object) -> None:
    made = config(f"generation.target={target}").generation.target
    assert made.model_dump(exclude_defaults=True) == {field: value}


@pytest.mark.parametrize(
    "target",
    ["{per_class: 3, factor: 2}", "{per_class: 3, match_many: true}", "{match_many: false}", "{}"],
)
def test_a_target_is_exactly_one_of_the_three(target: str) -> None:
    (line,) = mistakes([f"generation.target={target}"])
    assert line.startswith("generation.target: ")
    assert line.endswith("exactly one of match_many, per_class: N, factor: k")


def test_an_unknown_target_name_lists_the_three() -> None:
    (line,) = mistakes(["generation.target=match_all"])
    assert line.endswith("'match_all' is not allowed; expected match_many, {per_class: N} or "
                         "{factor: k}")  # fmt: skip


def test_all_mistakes_are_reported_at_once() -> None:
    lines = mistakes(
        [
            "foo=1",
            "data.source=digts",
            "generation.levels=[120]",
            "generation.guidance.guidance_scale=-1",
            "training.augment.degrees=-4",
            "training.epochs=0",
            "compare.even.loss=foo",
        ]
    )
    assert sorted(line.partition(":")[0] for line in lines) == [
        "compare.even.loss",
        "data.source",
        "foo",
        "generation.guidance.guidance_scale",
        "generation.levels.0",
        "training.augment.degrees",
        "training.epochs",
    ]


def test_a_parameter_without_a_default_is_missed() -> None:
    (line,) = mistakes(["data.long_tail={profile: exponential, max_count: 80}"])
    assert line == "data.long_tail.profile.imbalance_factor: missing; it has no default"


def test_missing_sections_are_named() -> None:
    with pytest.raises(UserError) as caught:
        validate(RunConfig, {"name": "x"})
    assert str(caught.value).splitlines() == [
        "data: missing; it has no default",
        "curriculum: missing; it has no default",
    ]


@pytest.mark.parametrize("model", [RunConfig, FitConfig])
def test_the_json_schema_is_a_form_with_descriptions(model: type[RunConfig | FitConfig]) -> None:
    schema = model.model_json_schema()
    sections = {"Run": schema, **schema["$defs"]}
    for name, section in sections.items():
        for field, form in section["properties"].items():
            described = {"description", "$ref", "allOf"} & form.keys()
            assert described, f"{name}.{field} has no description"
    if model is RunConfig:
        guidance = sections["GenerationConfig"]["properties"]["guidance"]
        assert {"cfg", "none"} <= set(guidance["anyOf"][0]["enum"])


def test_arms_are_the_baseline_the_curriculum_and_the_rest() -> None:
    arms = config().arms()
    assert list(arms) == ["baseline", "curriculum", "even"]
    assert arms["baseline"].schedule == MethodSpec(name="none")
