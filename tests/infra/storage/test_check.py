from pathlib import Path

from infra.storage.atomic import replacing
from infra.storage.check import check_store
from infra.storage.shards import write_shard
from tests.infra.storage.samples import encoded, members, rows_of


def fill(folder: Path) -> list[str]:
    for number in range(4):
        samples = members(2, first=2 * number)
        write_shard(folder, f"s{number}", samples, rows_of(samples))
    write_shard(folder, "none", [], rows_of([], failed=("x",)))
    return ["s0", "s1", "s2", "s3", "none"]


def found(folder: Path, names: list[str], verify: bool = True) -> list[tuple[str, str]]:
    problems = check_store(folder, names, verify=verify)
    assert all(problem.detail for problem in problems)
    return [(problem.path.name, problem.code) for problem in problems]


def test_a_good_store_has_no_problems(tmp_path: Path) -> None:
    names = fill(tmp_path)
    assert found(tmp_path, names) == []
    assert found(tmp_path / "nowhere", []) == []


def test_each_problem_is_found_and_named(tmp_path: Path) -> None:
    names = fill(tmp_path)
    damaged = bytearray((tmp_path / "s0.tar").read_bytes())
    damaged[1000] ^= 1
    (tmp_path / "s0.tar").write_bytes(damaged)
    with (tmp_path / "s1.tar").open("ab") as stream:
        stream.write(b"more")
    (tmp_path / "s2.tar").unlink()
    (tmp_path / "s3.parquet").write_bytes(b"PAR1")
    (tmp_path / "none.tar").write_bytes(bytes(1024))
    write_shard(tmp_path, "old", members(1), rows_of(members(1)))
    with replacing(tmp_path / "s9.tar"):
        problems = found(tmp_path, [*names, "gone"])
        assert problems.pop()[0].startswith(".s9.tar.")
    assert problems == [
        ("s0.tar", "wrong_sha256"),
        ("s1.tar", "wrong_size"),
        ("s2.tar", "missing_tar"),
        ("s3.parquet", "damaged_rows"),
        ("none.tar", "unlisted_file"),
        ("gone.parquet", "missing_rows"),
        ("old.parquet", "unlisted_file"),
        ("old.tar", "unlisted_file"),
    ]
    quick = found(tmp_path, names, verify=False)
    assert ("s0.tar", "wrong_sha256") not in quick
    assert ("s1.tar", "wrong_size") in quick


def test_shards_that_differ_in_layout_are_a_problem(tmp_path: Path) -> None:
    names = fill(tmp_path)
    colour = members(2, first=90, image=encoded(0, "RGB"))
    write_shard(tmp_path, "colour", colour, rows_of(colour))
    assert found(tmp_path, [*names, "colour"]) == [(tmp_path.name, "different_layout")]
