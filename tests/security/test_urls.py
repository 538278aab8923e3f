"""URLs of others: of stores alone, without credentials, refused before work and by their field.

That sources and checkpoints refuse some of them is in tests/curriculum/sources/test_urls.py and
tests/generators/test_checkpoint_places.py; here is what a command says, and that nobody is asked.
"""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import fsspec
import pytest
import yaml
from typer.testing import CliRunner

from curriculum.sources.huggingface import Huggingface
from curriculum.sources.listing import Listing
from generators.errors import CheckpointError, ConfigError, DataError, SampleRejected, UserError
from generators.filters.base import JudgeContext
from generators.filters.timm import TimmClassifier
from generators.places import PROTOCOLS, place
from infra.cli.app import app
from infra.config import FitConfig, RunConfig
from infra.config.load import override, read_preset, validate
from infra.prefect_server import check_answers
from infra.workers.ray_start import check_address
from tests.infra.jobs.world import png

WIDE = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
SECRET = "sesame-4711"
KINDS = (  # what fsspec opens and we do not; HOST counts its visitors
    "http://HOST/x",
    "https://HOST/x",
    "ftp://HOST/x",
    "github://owner:repo@main/x",
    "git://HOST/x",
    "sftp://HOST/x",
    "webhdfs://HOST/x",
    "dask://x",
    "reference://x",
    "data://text/plain,x",
    "hf://datasets/owner/name/x",
    "local:///etc/passwd",
    "zip://x.tar::http://HOST/x.zip",
    "tar://x::s3://bucket/x.tar",
    "simplecache::http://HOST/x",
    "filecache::file:///etc/passwd",
    "reference::http://HOST/x",
)
SOURCE = 'data={image_size: 8, channels: 1, source: {name: webdataset, path: "URL"}}'
DIFFUSION = "generation.backbone={name: stable_diffusion, path: "
FIELDS = {  # fields with URLs, and what gives the digits preset one there
    "data.source.path": SOURCE,
    "data.source.classes": SOURCE.replace("webdataset", "listing").replace(
        "URL", 'LIST", classes: "URL'
    ),
    "generation.backbone.path": DIFFUSION + '"URL"}',
    "generation.backbone.adapters.loras.0.path": DIFFUSION
    + 'SD, adapters: {loras: [{path: "URL"}]}}',
    "generation.backbone.ip_adapter.path": DIFFUSION
    + 'SD, ip_adapter: {path: "URL", weight_name: x}}',
}
CREDENTIALS = (
    f"https://user:{SECRET}@host/x.tar",
    f"s3://AKIAPLANTED:{SECRET}@bucket/x",
    f"s3://AKIAPLANTED:a/{SECRET}@bucket/x",
    f"s3://AKIAPLANTED:12/{SECRET}@bucket/x",
    f"s3://{SECRET}@bucket/x",
    f"s3://bucket/x.tar?X-Amz-Signature={SECRET}",
    f"gs://bucket/x.tar?GoogleAccessId=a&Signature={SECRET}",
    f"az://container/x?sv=2024&sig={SECRET}",
    f"https://host/x?access_token={SECRET}",
    f"simplecache::https://user:{SECRET}@host/x",
)


@dataclass(frozen=True, kw_only=True)
class Visited:
    """A server nobody may ask, and what it was asked for."""

    host: str
    visits: list[str] = field(default_factory=list)


@pytest.fixture
def visited() -> Iterator[Visited]:
    class Counting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.visits.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Counting) as server:
        found = Visited(host=f"127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield found
        server.shutdown()
        thread.join()


def refused(*words: object) -> str:
    """The message of a run of the digits that must end before it has begun."""
    command = ["run", "--preset", "digits", *map(str, words)]
    ended = CliRunner().invoke(app, command, env=WIDE)
    assert ended.exit_code == 2, ended.output
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    message: str = ended.stderr
    return message


@pytest.mark.parametrize("kind", KINDS)
def test_other_kinds_of_urls_are_refused_without_asking_anybody(
    kind: str, tmp_path: Path, visited: Visited
) -> None:
    url = kind.replace("HOST", visited.host)
    message = refused("-o", tmp_path / "run", "-s", SOURCE.replace("URL", url))
    assert message.startswith(f"error data.source.path: '{url.partition(':')[0]}:")
    if "@" not in url:
        assert f"expected a path, or a URL of {', '.join(sorted(PROTOCOLS))}" in message
    assert visited.visits == []
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_with_a_url_says_its_own_name(
    name: str, tmp_path: Path, tiny_sd_folder: Path, visited: Visited
) -> None:
    change = (
        FIELDS[name].replace("SD", str(tiny_sd_folder)).replace("LIST", str(tmp_path / "x.csv"))
    )
    (tmp_path / "x.csv").write_text("path,label\nx.csv,0\n")
    url = f"http://{visited.host}/x"
    message = refused("-o", tmp_path / "run", "-s", change.replace("URL", url))
    assert message.startswith(f"error {name}: 'http://...' is not allowed; expected a path, or a")
    assert visited.visits == []
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("url", ["http://HOST/x", "simplecache::http://HOST/x", "s3://k:s@b/x"])
def test_outputs_and_lenders_are_stores_too(url: str, tmp_path: Path, visited: Visited) -> None:
    url = url.replace("HOST", visited.host)
    start = url.partition(":")[0]
    assert refused("-o", url).startswith(f"error output: '{start}:")
    message = refused("-o", tmp_path / "run", "--reuse", url)
    assert message.startswith(f"error --reuse: '{start}:")
    assert visited.visits == []


@pytest.mark.parametrize("url", CREDENTIALS)
def test_urls_with_credentials_are_refused_anywhere_in_a_config_and_not_repeated(url: str) -> None:
    places = {
        "data.source.path": f'data.source={{name: webdataset, path: ["a.tar", "{url}"]}}',
        "generation.backbone.path": DIFFUSION + f'"{url}"}}',
        "filter.judges.0.path": f'filter.judges=[{{name: clip, path: "{url}"}}]',
        "workers.address": f"workers.address={url}",
        "generation.prompt": f"generation.prompt={url}",
    }
    for name, change in places.items():
        with pytest.raises(UserError) as caught:
            validate(RunConfig, override(read_preset("digits"), [change]))
        assert str(caught.value).startswith(f"{name}")
        assert "expected a URL without credentials" in str(caught.value)
        assert SECRET not in str(caught.value)
    with pytest.raises(UserError, match=r"knowledge: .*without credentials") as caught:
        validate(FitConfig, override(read_preset("handwriting"), [f"knowledge={url}"]))
    assert SECRET not in str(caught.value)
    message = refused("-s", places["data.source.path"])
    assert SECRET not in message
    with pytest.raises(ConfigError) as refusal:
        place(url)  # also where no config is, e.g. an output
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [
        "s3://arn:aws:s3:us-east-1:123456789012:accesspoint/mine/x",
        "s3://bucket/a@2x.png",
        "s3://bucket/x.tar?versionId=3",
        "gs://bucket/train-{000..012}/*.tar",
        "memory://bucket/odd #1%2F? [x].png",
    ],
)
def test_urls_that_only_look_so_are_allowed(url: str) -> None:
    change = f'data.source={{name: webdataset, path: "{url}"}}'
    config = validate(RunConfig, override(read_preset("digits"), [change]))
    assert config.data.source.params["path"] == url
    if not url.startswith("gs:"):  # whose library asks for credentials at once
        assert str(place(url)) == url


def test_addresses_with_credentials_are_not_repeated() -> None:
    for address in (f"user:{SECRET}@127.0.0.1:1", f"ray://user:{SECRET}@127.0.0.1:1"):
        with pytest.raises(ConfigError, match=r"workers\.address: .*127\.0\.0\.1:1") as refusal:
            check_address(address)
        assert SECRET not in str(refusal.value)
    with pytest.raises(
        UserError, match=r"does not answer: http://\.\.\.@127\.0\.0\.1:1/api"
    ) as caught:
        check_answers(f"http://user:{SECRET}@127.0.0.1:1/api")
    assert SECRET not in str(caught.value)


OUTSIDE = ("/etc/passwd", "../secret.png", "a/../../secret.png", "file:///etc/passwd")


@pytest.mark.parametrize("root", ["DISK", "memory://lists"])
def test_names_in_a_list_do_not_lead_out_of_its_folder(
    root: str, tmp_path: Path, visited: Visited
) -> None:
    (tmp_path / "secret.png").write_bytes(png())
    folder = place(root.replace("DISK", str(tmp_path / "images")))
    names = ["in.png", *OUTSIDE, f"http://{visited.host}/x.png", "s3://bucket/x.png"]
    _put(f"{folder}/in.png", png())
    _put(f"{folder}/list.csv", ("path,label\n" + "".join(f"{n},a\n" for n in names)).encode())
    images = Listing(path=f"{folder}/list.csv").open()
    assert images.read(0) == png()
    for index in range(1, len(names)):
        with pytest.raises(SampleRejected, match="missing_file"):
            images.read(index)
    assert visited.visits == []


def test_a_list_may_start_at_the_root_of_the_disk(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "list.csv").write_text(f"path,label\n{tmp_path / 'a.png'},0\n")
    for root in ("/", str(tmp_path)):
        assert Listing(path=str(tmp_path / "list.csv"), root=root).open().read(0) == png()


@pytest.mark.parametrize("name", ["README.md", ".huggingface.yaml"])
@pytest.mark.parametrize("target", ["http://HOST/x.csv", "/etc/passwd", "../x.csv"])
def test_the_card_of_a_data_set_names_no_files_elsewhere(
    name: str, target: str, tmp_path: Path, visited: Visited
) -> None:
    target = target.replace("HOST", visited.host)
    text = yaml.safe_dump(
        {
            "configs": [
                {"config_name": "default", "data_files": [{"split": "train", "path": [target]}]}
            ]
        }
    )
    (tmp_path / name).write_text(f"---\n{text}---\n" if name == "README.md" else text)
    (tmp_path / "x.csv").write_text("image,label\na,b\n")
    with pytest.raises(DataError, match="no file of the folder"):
        Huggingface(dataset=str(tmp_path)).open()
    assert visited.visits == []


def test_a_checkpoint_s_own_config_names_no_weights_elsewhere(
    tiny_timm_folder: Path, tmp_path: Path, visited: Visited
) -> None:
    config = json.loads((tiny_timm_folder / "config.json").read_text())
    config["pretrained_cfg"] |= {"url": f"http://{visited.host}/x.pth", "source": "url"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    judge = TimmClassifier(weights=str(tmp_path), classes=("a", "b", "c", "d", "e"))
    with pytest.raises(CheckpointError, match="cannot load"):
        judge.load(JudgeContext(class_names=("a",), classifier=None, device="cpu"))
    assert visited.visits == []


def _put(where: str, data: bytes) -> None:
    """A file on a disk or in a store, with the folders above it."""
    with fsspec.open(where, "wb", auto_mkdir=True) as stream:
        stream.write(data)
