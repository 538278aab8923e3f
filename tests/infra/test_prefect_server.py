"""The Prefect API of a run: the configured one, or a private server that ends with the run."""

import http.server
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from generators.errors import UserError
from infra.errors import RunFailed
from infra.prefect_server import PrivateServer, check_answers, configured_api, prefect_api

URL = "http://prefect.example:4200/api"


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A user without any Prefect settings; the environment is put back afterwards."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    os.environ["HOME"] = str(tmp_path / "home")
    (tmp_path / "home" / ".prefect").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def answering() -> Iterator[str]:
    """A server that answers everything with 404, as one that is picky about its clients."""
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    server.RequestHandlerClass.log_message = lambda *_: None  # type: ignore[assignment, method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/api"
    server.shutdown()
    thread.join()
    server.server_close()


def test_nothing_is_configured_on_a_fresh_machine() -> None:
    assert configured_api() is None


def in_environment() -> None:
    os.environ["PREFECT_API_URL"] = URL


def in_profile() -> None:
    Path("~/.prefect/profiles.toml").expanduser().write_text(
        f'active = "team"\n[profiles.other]\n[profiles.team]\nPREFECT_API_URL = "{URL}"\n'
    )


def in_chosen_profile() -> None:
    os.environ["PREFECT_HOME"] = str(Path("elsewhere").absolute())
    os.environ["PREFECT_PROFILE"] = "team"
    Path("elsewhere").mkdir()
    Path("elsewhere/profiles.toml").write_text(
        f'active = "other"\n[profiles.other]\n[profiles.team]\nPREFECT_API_URL = "{URL}"\n'
    )


def in_prefect_toml() -> None:
    Path("prefect.toml").write_text(f'[api]\nurl = "{URL}"\n')


def in_pyproject() -> None:
    Path("pyproject.toml").write_text(f'[tool.prefect.api]\nurl = "{URL}"\n')


def in_dotenv() -> None:
    Path(".env").write_text(f"OTHER=1\nexport PREFECT_API_URL='{URL}'\n")


@pytest.mark.parametrize(
    "configure",
    [in_environment, in_profile, in_chosen_profile, in_prefect_toml, in_pyproject, in_dotenv],
)
def test_every_place_prefect_reads_its_api_from_is_found(configure: Callable[[], None]) -> None:
    configure()
    assert configured_api() == URL


def test_a_profile_that_is_not_active_configures_nothing() -> None:
    Path("~/.prefect/profiles.toml").expanduser().write_text(
        f'active = "ephemeral"\n[profiles.ephemeral]\n[profiles.team]\nPREFECT_API_URL = "{URL}"\n'
    )
    Path("pyproject.toml").write_text('[project]\nname = "x"\n')
    Path("prefect.toml").write_text("not = [toml")
    assert configured_api() is None


def test_a_configured_api_is_used_as_it_is(answering: str, tmp_path: Path) -> None:
    os.environ["PREFECT_API_URL"] = answering
    with prefect_api(tmp_path / "run" / "prefect") as server:
        assert server is None
        assert os.environ["PREFECT_API_URL"] == answering
        assert "PREFECT_HOME" not in os.environ
        assert os.environ["DO_NOT_TRACK"] == "1"
    assert os.environ["PREFECT_API_URL"] == answering
    assert not (tmp_path / "run").exists()


def test_a_configured_api_that_is_not_there_is_a_mistake_of_the_user(answering: str) -> None:
    check_answers(answering)
    with pytest.raises(UserError, match=r"does not answer: http://127\.0\.0\.1:1/api"):
        check_answers("http://127.0.0.1:1/api")


def test_a_server_that_ends_at_once_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    server = PrivateServer(tmp_path)
    with pytest.raises(RunFailed, match=r"did not start; see .*server\.log"):
        server.wait()


@pytest.mark.slow
def test_a_private_server_answers_and_ends_with_the_block(tmp_path: Path) -> None:
    os.environ["HTTP_PROXY"] = os.environ["http_proxy"] = "http://127.0.0.1:1"  # reaches nothing
    with prefect_api(tmp_path / "prefect") as server:
        assert server is not None
        url = server.wait()
        assert os.environ["PREFECT_API_URL"] == url
        assert os.environ["PREFECT_HOME"] == str(tmp_path / "prefect")
        assert answers(url)
        (guardian,) = listening(url)
        assert os.getsid(guardian) != os.getsid(0)  # a Ctrl-C does not reach it
        started = time.monotonic()
    assert time.monotonic() - started < 10
    assert "PREFECT_API_URL" not in os.environ
    assert not answers(url)
    assert listening(url) == []
    assert (tmp_path / "prefect" / "prefect.db").is_file()


OWNER = """
import sys, time
from pathlib import Path
from infra.prefect_server import PrivateServer
print(PrivateServer(Path(sys.argv[1])).wait(), flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_a_private_server_ends_when_its_owner_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        url = owner.stdout.readline().strip()
        assert answers(url)
        os.kill(owner.pid, signal.SIGKILL)
        deadline = time.monotonic() + 15  # the owner is not waited for: it is a zombie meanwhile
        while listening(url) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert psutil.Process(owner.pid).status() == psutil.STATUS_ZOMBIE
        assert listening(url) == []
        assert not answers(url)


def answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


def listening(url: str) -> list[int]:
    """Processes that serve the URL's port."""
    port = url.rpartition(":")[2].partition("/")[0]
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        words = process.info["cmdline"] or []
        if "server" in words and port in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.info["pid"])
    return found
