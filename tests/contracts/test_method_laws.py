"""Laws of every method of every family: a new file is under them at once."""

import dataclasses
import pickle
from importlib.util import find_spec

import pytest

from generators.errors import ConfigError
from generators.registry import FAMILIES, MethodSpec, build, describe, method, names

EXISTING = [family for family, package in FAMILIES.items() if find_spec(package)]
METHODS = [(family, name) for family in EXISTING for name in names(family)]


@pytest.mark.parametrize("family", ["backbone", "guidance", "sampler", "filter"])
def test_families_of_the_core_have_methods(family: str) -> None:
    assert family in EXISTING
    assert names(family)


@pytest.mark.parametrize(("family", "name"), METHODS)
def test_method_is_a_frozen_described_dataclass(family: str, name: str) -> None:
    cls = method(family, name)
    info = describe(family, name)

    assert dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen
    assert 20 <= len(info.summary) <= 100
    assert info.summary.endswith((".", ";", ":")) or info.summary[-1].isalnum()
    attributes = cls.__doc__.partition("Attributes:")[2]
    assert all(f"{parameter.name}:" in attributes for parameter in info.parameters)


@pytest.mark.parametrize(("family", "name"), METHODS)
def test_unknown_parameters_are_refused_by_name(family: str, name: str) -> None:
    with pytest.raises(ConfigError, match="no_such_parameter"):
        build(family, MethodSpec(name=name, params={"no_such_parameter": 1}), "here")


@pytest.mark.parametrize(("family", "name"), METHODS)
def test_defaults_build_and_pickle(family: str, name: str) -> None:
    """Methods travel to workers; where something must be given, the error names it."""
    parameters = describe(family, name).parameters
    required = any(parameter.required for parameter in parameters)
    built, refused = None, ""
    try:
        built = build(family, MethodSpec(name=name))
    except ConfigError as error:
        refused = str(error)

    if refused:
        assert any(parameter.name in refused for parameter in parameters)
    else:
        assert not required
        assert pickle.loads(pickle.dumps(built)) == built
