from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import ConfigDict, Field

from generators.errors import ConfigError, one_of
from generators.guidance.cfg import ClassifierFreeGuidance
from generators.registry import MethodSpec, build, describe, from_params, names


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A method made for this test.

    Attributes:
        path: needed.
        kind: one of two.
        widths: as JSON has no tuples, a list will do.
    """

    path: str
    kind: Literal["a", "b"] = "a"
    widths: tuple[int, ...] = ()
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5


def test_a_method_is_found_by_its_file_name() -> None:
    assert {"cfg", "none"} <= set(names("guidance"))
    assert "base" not in names("guidance")
    built = build("guidance", MethodSpec(name="cfg", params={"guidance_scale": 3}))
    assert built == ClassifierFreeGuidance(guidance_scale=3.0)


def test_unknown_method_names_the_closest() -> None:
    with pytest.raises(ConfigError) as caught:
        build("sampler", MethodSpec(name="dim"), "generation.sampler")

    assert caught.value.field == "generation.sampler"
    assert caught.value.value == "dim"
    assert "did you mean 'ddim'?" in str(caught.value)
    assert "'dpm_solver_pp_2m'" in str(caught.value)


def test_unknown_parameter_names_the_closest() -> None:
    spec = MethodSpec(name="cfg", params={"guidance_scal": 2})
    with pytest.raises(ConfigError) as caught:
        build("guidance", spec, "generation.guidance")

    assert caught.value.field == "generation.guidance.guidance_scal"
    assert "did you mean 'guidance_scale'?" in str(caught.value)


def test_parameter_of_a_method_without_any() -> None:
    with pytest.raises(ConfigError, match="no parameters"):
        build("guidance", MethodSpec(name="none", params={"guidance_scale": 2}))


@pytest.mark.parametrize("value", [-0.1, 101, float("nan"), float("inf"), "much", None, [1]])
def test_value_out_of_range_names_field_value_and_bound(value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        build("guidance", MethodSpec(name="cfg", params={"guidance_scale": value}))

    assert caught.value.field == "guidance.guidance_scale"
    assert caught.value.value is value
    assert caught.value.allowed


def test_plain_data_becomes_the_declared_types() -> None:
    built = from_params(Sample, {"path": "x", "widths": [8, 16]}, "at")

    assert built.widths == (8, 16)
    with pytest.raises(ConfigError, match=r"at\.path: .*required"):
        from_params(Sample, {}, "at")
    with pytest.raises(ConfigError, match=r"at\.kind: 'c' is not allowed; .*'a' or 'b'"):
        from_params(Sample, {"path": "x", "kind": "c"}, "at")
    with pytest.raises(ConfigError, match=r"at\.widths\.1"):
        from_params(Sample, {"path": "x", "widths": [8, "wide"]}, "at")


def test_description_is_read_from_the_dataclass() -> None:
    info = describe("guidance", "cfg")

    assert (info.family, info.name) == ("guidance", "cfg")
    assert info.summary.startswith("eps_u + w (eps_c - eps_u)")
    parameter = info.parameters[0]
    assert (parameter.name, parameter.default, parameter.required) == ("guidance_scale", 2.0, False)
    assert parameter.type == "float >= 0, <= 100"


def test_one_of_puts_the_closest_last_and_sorts() -> None:
    assert one_of(["b", "a"]) == "one of 'a', 'b'"
    assert one_of(["few", "many"], "mny") == "one of 'few', 'many' (did you mean 'many'?)"


def test_types_are_told_in_words() -> None:
    told = {
        (family, parameter.name): parameter.type
        for family, name in (("schedule", "fixed_stages"), ("backbone", "toy"), ("sampler", "ddim"))
        for parameter in describe(family, name).parameters
    }
    assert told["schedule", "levels"] == "list of int >= 0, <= 100"
    assert told["schedule", "order"] == "ascending | descending"
    assert told["backbone", "means"] == "mapping of str to list of list of float"
    assert told["backbone", "prior"] == "mapping of str to float | none"
    assert told["backbone", "shape"] == "(int, int, int)"
    assert told["sampler", "clip_sample"] == "bool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    """A section made for this test."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    speed: Annotated[int, Field(ge=0)] = 1
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    """A method with sections made for this test."""

    one: Inner = field(default_factory=Inner)
    many: tuple[Inner, ...] = ()


def test_sections_are_checked_like_methods() -> None:
    built = from_params(Outer, {"one": {"speed": 3}, "many": [{"kind": "b"}]}, "at")
    assert built == Outer(one=Inner(speed=3), many=(Inner(kind="b"),))

    with pytest.raises(ConfigError, match=r"at\.one\.sped: 2 is .*did you mean 'speed'"):
        from_params(Outer, {"one": {"sped": 2}}, "at")
    with pytest.raises(ConfigError, match=r"at\.many\.1\.knd: 'a' is .*did you mean 'kind'"):
        from_params(Outer, {"many": [{}, {"knd": "a"}]}, "at")
    with pytest.raises(ConfigError, match=r"at\.one\.speed: -1 is not allowed; .*0"):
        from_params(Outer, {"one": {"speed": -1}}, "at")


def test_sections_are_described_with_their_parameters() -> None:
    info = {
        parameter.name: parameter
        for parameter in describe("backbone", "stable_diffusion").parameters
    }
    runtime = info["runtime"]

    assert (runtime.type, runtime.required) == ("section", False)
    assert {p.name: p.default for p in runtime.parameters} == runtime.default
    assert {p.name: p.type for p in runtime.parameters}["compile"] == "none | blocks | full"
    assert info["path"].parameters == ()
