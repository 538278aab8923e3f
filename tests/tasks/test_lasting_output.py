import pytest

from generators.errors import ConfigError
from tasks.lasting_output import lasting_output


@pytest.mark.parametrize("output", ["runs/birds", "../birds", None])
def test_a_deployment_writes_nowhere_that_is_removed_after_it(
    output: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lasting_output(output) == output  # a command's folder stays
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "7c0b")
    with pytest.raises(ConfigError, match=r"output: .* expected an absolute path or a URL"):
        lasting_output(output)


@pytest.mark.parametrize("output", ["/data/runs/birds", "s3://data/birds", "~/birds"])
def test_what_stays_is_allowed(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "7c0b")
    assert lasting_output(output) == output
