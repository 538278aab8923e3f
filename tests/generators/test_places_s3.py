"""Files of a real S3 server: libraries of stores differ in what the same call means."""

import hashlib
import secrets
from collections.abc import Iterator

import pytest

from generators.local_copies import local_copy
from generators.places import opened, place, read_image, read_range
from tests.support.object_store import BUCKET, Faults, failing, serving

KEYS = {"AWS_ACCESS_KEY_ID": "planted", "AWS_SECRET_ACCESS_KEY": "planted too"}
DATA = secrets.token_bytes(300_000)


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    """What befalls requests to the server that the environment leads to; it holds one object."""
    faults = Faults()
    with (
        pytest.MonkeyPatch.context() as patch,
        serving(KEYS) as direct,
        failing(direct["AWS_ENDPOINT_URL"], faults) as url,
    ):
        for name, value in {**direct, "AWS_ENDPOINT_URL": url}.items():
            patch.setenv(name, value)
        patch.setenv("DISCL_CACHE", str(tmp_path_factory.mktemp("cache")))
        where = place(f"s3://{BUCKET}/file.bin")
        where.fs.pipe_file(where.path, DATA)
        yield faults


@pytest.mark.parametrize(
    ("start", "size"), [(0, 1), (0, 300_000), (1, 10), (299_990, 10), (200_000, 0)]
)
@pytest.mark.usefixtures("faults")
def test_a_part_of_a_file_is_that_part(start: int, size: int) -> None:
    assert read_range(place(f"s3://{BUCKET}/file.bin"), start, size) == DATA[start : start + size]


@pytest.mark.usefixtures("faults")
def test_a_file_is_whole_however_it_is_read() -> None:
    where = place(f"s3://{BUCKET}/file.bin")
    assert read_image(where) == DATA
    assert local_copy(where).read_bytes() == DATA
    digest = hashlib.sha256(DATA).hexdigest()
    assert local_copy(where, digest).read_bytes() == DATA
    with opened(where) as stream:
        stream.seek(123_456)
        assert stream.read(1000) == DATA[123_456:124_456]


@pytest.mark.usefixtures("faults")
def test_a_file_that_ends_early_is_an_error() -> None:
    with pytest.raises(OSError, match="ends at byte 300000"):
        read_range(place(f"s3://{BUCKET}/file.bin"), 299_000, 2000)
    with pytest.raises(FileNotFoundError):
        read_range(place(f"s3://{BUCKET}/none.bin"), 0, 10)


def test_a_part_is_read_through_errors_and_cut_answers(faults: Faults) -> None:
    faults.shares = {"error": 0.2, "cut_response": 0.2}
    where = place(f"s3://{BUCKET}/file.bin")
    parts = [read_range(where, start, 30_000) for start in range(0, 300_000, 30_000)]
    assert b"".join(parts) == DATA
    assert faults.done["cut_response"] + faults.done["error"] > 0
