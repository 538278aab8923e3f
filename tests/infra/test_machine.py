"""Facts of the machine and the libraries."""

from importlib.metadata import version

from infra.machine import (
    NOT_INSTALLED,
    cpu_name,
    describe_machine,
    describe_versions,
    package_version,
)
from infra.workers.base import available_cpus


def test_the_machine_is_described_in_words() -> None:
    facts = describe_machine()
    assert facts["cores"] == str(available_cpus())
    assert facts["cpu"] == cpu_name() != ""
    number, unit = facts["memory"].split()
    assert int(number) > 0
    assert unit == "GiB"
    assert facts["devices"]


def test_versions_are_those_of_the_libraries_results_depend_on() -> None:
    found = describe_versions()
    assert found["torch"] == version("torch")
    assert found["ray"] == version("ray")
    assert set(found) >= {"python", "diffusion-curriculum", "diffusers", "timm", "pyarrow"}


def test_a_package_that_is_not_there_is_a_fact_and_no_error() -> None:
    assert package_version("no-such-package-at-all") == NOT_INSTALLED
