"""The speed of several workers as one."""

from infra.gauge import as_line, as_table, combined

SLOW = {"evaluations_per_second": 100.0, "share_of_bare_rate": 0.8, "rows_per_batch": 15.0}
FAST = {"evaluations_per_second": 300.0, "share_of_bare_rate": 1.0, "rows_per_batch": 16.0}


def test_rates_add_up_and_shares_are_averaged() -> None:
    both = combined(
        [{**SLOW, "batch_size": 16, "queue": 20}, {**FAST, "batch_size": 16, "queue": 3}]
    )
    assert both == {
        "evaluations_per_second": 400.0,
        "share_of_bare_rate": 0.9,
        "rows_per_batch": 15.5,
        "batch_size": 16,
        "queue": 23,
    }
    assert as_line(both) == "400 evaluations/s, 90 % of the network alone, 15.5 of 16 rows a batch"
    assert {"what": "queue", "value": "23"} in as_table(both)


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert combined([]) == {}
    assert as_line({}) == ""
