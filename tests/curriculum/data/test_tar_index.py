import gzip
import io
import tarfile

import pytest

from curriculum.data.tar_index import scan_tar
from generators.errors import DataError
from generators.places import read_range


def write(path, members, mode="w", format=tarfile.PAX_FORMAT):
    with tarfile.open(path, mode, format=format) as tar:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_ranges_hold_the_members(tmp_path, format):
    long = "d" * 60 + "/" + "e" * 60
    members = [
        ("a.cls", b"1"),
        ("a.JPG", b"x" * 1000),
        (f"{long}.left.png", b"png"),
        ("b.c.d", b""),
    ]
    path = write(tmp_path / "x.tar", members, format=format)
    samples = scan_tar(path)
    assert [(sample.key, set(sample.members)) for sample in samples] == [
        ("a", {"cls", "jpg"}),
        (long, {"left.png"}),
        ("b", {"c.d"}),
    ]
    read = [read_range(path, *place) for sample in samples for place in sample.members.values()]
    assert read == [data for _, data in members]


def test_members_of_a_sample_may_be_apart(tmp_path):
    path = write(
        tmp_path / "x.tar", [("a.cls", b"1"), ("b.cls", b"2"), ("a.jpg", b""), ("b.jpg", b"")]
    )
    assert [sample.key for sample in scan_tar(path)] == ["a", "b"]


def test_what_is_no_member_is_left_out(tmp_path):
    path = tmp_path / "x.tar"
    write(path, [("README", b"x"), (".hidden.jpg", b"x"), ("__meta__.json", b"{}"), ("a.jpg", b"")])
    with tarfile.open(path, "a") as tar:
        folder = tarfile.TarInfo("folder.d")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    assert [sample.key for sample in scan_tar(path)] == ["a"]


def test_a_member_twice_is_refused(tmp_path):
    path = write(tmp_path / "x.tar", [("a.jpg", b"1"), ("a.jpg", b"2")])
    with pytest.raises(DataError, match=r"'a.jpg' is there twice"):
        scan_tar(path)


def test_what_is_no_tar_is_refused(tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(b"hello" * 500)
    with pytest.raises(DataError, match="cannot be read as a tar"):
        scan_tar(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read as a tar"):
        scan_tar(path)
    path.write_bytes(gzip.compress(write(tmp_path / "y.tar", [("a.jpg", b"1")]).read_bytes()))
    with pytest.raises(DataError, match="compressed tars cannot be read by position"):
        scan_tar(path)


def test_truncated_and_damaged_tars_are_refused(tmp_path):
    path = write(
        tmp_path / "x.tar", [("a.jpg", b"1" * 2000), ("b.jpg", b"2" * 2000), ("c.jpg", b"3")]
    )
    data = path.read_bytes()
    path.write_bytes(data[:4000])
    with pytest.raises(DataError, match=r"x.tar: cannot be read as a tar: unexpected end of data"):
        scan_tar(path)
    damaged = bytearray(data)
    second = 512 + 2048
    damaged[second : second + 200] = b"\x07" * 200
    path.write_bytes(bytes(damaged))
    with pytest.raises(DataError, match=f"damaged at byte {second}"):
        scan_tar(path)


def test_a_tar_that_became_shorter(tmp_path):
    path = write(tmp_path / "x.tar", [("a.jpg", b"1" * 2000)])
    place = scan_tar(path)[0].members["jpg"]
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(OSError, match="ends at byte 1000"):
        read_range(path, *place)
