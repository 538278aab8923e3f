"""Archives and images of others are data: nothing is extracted, nothing is believed."""

import io
import os
import resource
import struct
import tarfile
import tracemalloc
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curriculum.data.decode import decode
from curriculum.sources.parquet import Parquet
from curriculum.sources.webdataset import Webdataset
from generators.errors import DataError, SampleRejected
from generators.places import MAX_IMAGE_BYTES, read_image

GIGABYTE = 2**30


def png(side=4):
    stream = io.BytesIO()
    Image.fromarray(np.zeros((side, side), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def add(tar, name, data=b"", **fields):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for field, value in fields.items():
        setattr(member, field, value)
    tar.addfile(member, io.BytesIO(data) if data else None)


def good(tar, key):
    add(tar, f"{key}.png", png())
    add(tar, f"{key}.cls", b"0")


@pytest.fixture
def folder(tmp_path):
    """An empty folder in a folder, so that `..` would be seen."""
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    return inner


def everything_below(path):
    return sorted(str(p) for p in path.rglob("*"))


def test_names_links_and_devices_make_no_files(folder, tmp_path):
    with tarfile.open(folder / "x.tar", "w") as tar:
        good(tar, "a")
        good(tar, "../../planted")
        good(tar, "/tmp/discl-planted")
        good(tar, "new\nline")
        good(tar, "<script>alert(1)</script>")
        add(tar, "link.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(tar, "link.cls", type=tarfile.LNKTYPE, linkname="/etc/passwd")
        add(tar, "null.png", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
        add(tar, "pipe.png", type=tarfile.FIFOTYPE)
    before = everything_below(tmp_path)
    images = Webdataset(path=str(folder / "x.tar")).open()
    origins = [images.origin(index).partition("#")[2] for index in range(len(images.labels))]
    script = "<script>alert(1)</script>"
    assert origins == ["a", "../../planted", "/tmp/discl-planted", "new\nline", script]
    assert all(images.read(index) == png() for index in range(len(origins)))
    assert everything_below(tmp_path) == before


def test_members_twice_are_refused(folder):
    with tarfile.open(folder / "x.tar", "w") as tar:
        good(tar, "a")
        good(tar, "a")
    with pytest.raises(DataError, match="is there twice"):
        Webdataset(path=str(folder / "x.tar")).open()


def header(name, size, kind=tarfile.REGTYPE):
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_header_that_declares_gigabytes_is_not_read(folder, kind):
    path = folder / "x.tar"
    with path.open("wb") as stream:
        stream.write(header("long", 4 * GIGABYTE, kind))
        stream.truncate(5 * GIGABYTE)  # sparse: takes no space
    tracemalloc.start()
    with pytest.raises(DataError, match="cannot be read as a tar"):
        Webdataset(path=str(path)).open()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * 2**20


def test_a_member_that_declares_more_than_the_file_is_refused(folder):
    (folder / "x.tar").write_bytes(header("a.png", 8 * GIGABYTE) + b"\0" * 1024)
    with pytest.raises(DataError, match="cannot be read as a tar"):
        Webdataset(path=str(folder / "x.tar")).open()


def sparse_tar(path, image_size, label_size=1):
    with path.open("wb") as stream:
        stream.write(header("a.cls", label_size))
        stream.write(b"0")
        stream.seek(-(-label_size // 512) * 512 - 1, io.SEEK_CUR)
        stream.seek(-(-stream.tell() // 512) * 512)
        stream.write(header("a.png", image_size))
        stream.truncate(stream.tell() + -(-image_size // 512) * 512 + 1024)


def test_an_image_of_gigabytes_is_a_refused_row(folder):
    path = folder / "x.tar"
    sparse_tar(path, MAX_IMAGE_BYTES + 1)
    images = Webdataset(path=str(path)).open()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SampleRejected, match="image_too_large"):
        images.read(0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_label_of_gigabytes_is_refused(folder):
    path = folder / "x.tar"
    sparse_tar(path, 512, label_size=2 * GIGABYTE)
    with pytest.raises(DataError, match=r"label of 'a' has \d+ bytes"):
        Webdataset(path=str(path)).open()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("sides", [(50_000, 50_000), (2**31 - 1, 2**31 - 1)])
def test_image_bombs_are_refused_rows(sides):
    size = struct.pack(">IIBBBBB", *sides, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100_000))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + pixels + chunk(b"IEND", b"")
    with pytest.raises(SampleRejected, match=r"image_too_large|unreadable_image"):
        decode(bomb, 3)


def test_notes_that_unpack_to_gigabytes_are_refused():
    note = b"note\0\0" + zlib.compress(b"\0" * (80 * 2**20))
    start, rest = png()[:33], png()[33:]
    tracemalloc.start()
    with pytest.raises(SampleRejected, match="unreadable_image"):
        decode(start + chunk(b"zTXt", note) + rest, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20


def test_files_that_run_other_programs_are_no_images():
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/tmp/planted) (w) file\n"
    with pytest.raises(SampleRejected, match="no image format"):
        decode(postscript, 3)


@pytest.mark.parametrize(
    "cell", ["/etc/passwd", "../secret.png", "a/../../secret.png", "~/x.png", "s3://bucket/x.png"]
)
def test_cells_of_a_table_do_not_lead_out_of_its_folder(folder, cell):
    (folder.parent / "secret.png").write_bytes(png())
    pq.write_table(pa.table({"image": [cell], "label": [0]}), folder / "x.parquet")
    images = Parquet(path=str(folder / "x.parquet")).open()
    with pytest.raises(SampleRejected, match="leads out of the data set"):
        images.read(0)


def test_a_pipe_in_a_folder_of_images_holds_nobody_up(folder):
    os.mkfifo(folder / "x.png")
    with pytest.raises(SampleRejected, match="no regular file"):
        read_image(folder / "x.png")


def test_a_file_of_gigabytes_is_not_read_whole(folder):
    with (folder / "x.png").open("wb") as stream:
        stream.truncate(MAX_IMAGE_BYTES + 1)
    with pytest.raises(SampleRejected, match="image_too_large"):
        read_image(folder / "x.png")
