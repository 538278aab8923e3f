"""Differences from an arm of the table are paired by seed and within a loss."""

from benchmarks.study_table import differences, tables
from curriculum.study import Cell


def cell(data: str, treatment: str, seed: int, few: float) -> Cell:
    test = {"many": 0.0, "medium": 0.0, "few": few, "all": few / 2}
    return Cell(
        data=data,
        treatment=treatment,
        is_real=False,
        seed=seed,
        test=test,
        val={},
        model_evaluations=0,
        seconds=1.0,
    )


def test_arms_are_compared_seed_by_seed_under_their_own_loss() -> None:
    cells = [
        cell(data, treatment, seed, few)
        for treatment, shift in (("ce", 0.0), ("bs", 30.0))
        for data, values in (("flat", (10.0, 20.0)), ("ordered", (12.0, 24.0)))
        for seed, few in enumerate(value + shift for value in values)
    ]
    cells += [cell("flat_only", "focal", seed, 0.0) for seed in range(2)]
    found = differences(cells, "flat").splitlines()
    assert found[0] == "| data | loss | few less flat | all less flat |"
    assert [row.split(" | ")[:2] for row in found[2:]] == [["| ordered", "ce"], ["| ordered", "bs"]]
    # Differences 2 and 4: mean 3, t(1 degree of freedom) 12.706 times the standard error 1.
    few = "+3.0 [-9.7, +15.7], p 0.2"
    assert [row.split(" | ")[2] for row in found[2:]] == [few, few]
    assert [row.split(" | ")[3][:4] for row in found[2:]] == ["+1.5", "+1.5"]


def test_a_part_of_the_seeds_is_read_alone() -> None:
    found = [
        {
            "data": study,
            "schedule": arm,
            "loss": "ce",
            "generator": generator,
            "seed": seed,
            **dict.fromkeys(("many", "medium", "all"), 0.0),
            "few": few,
            "model_evaluations": 0,
            "seconds": 1.0,
        }
        for study, arm, generator, values in (
            ("long", "baseline", "", (50.0, 10.0, 20.0)),
            ("long", "ordered", "unet", (0.0, 11.0, 21.6)),
            ("short", "repeated", "", (0.0, 0.0, 0.0)),
        )
        for seed, few in enumerate(values)
    ]
    told = tables(found, "baseline", 1, 2)
    assert told.startswith("**long**")
    assert "**short**" not in told
    # Differences 1 and 1.6: 12.706 times the standard error 0.3 either side of 1.3.
    assert "| ordered | ce | +1.3 [-2.5, +5.1]" in told
    means = tables(found, None, 1, 2)
    assert "| baseline | ce | 0.0 ± 0.0 | 0.0 ± 0.0 | 15.0 ± 63.5 |" in means
    assert "**short**" in means
