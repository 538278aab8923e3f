"""The speed of several workers as one."""

import pytest

from infra.gauge import as_line, as_table, combined

FIRST = {
    "evaluations": 600.0,
    "batches": 40.0,
    "capacity": 640.0,
    "queued": 800.0,
    "seconds": 6.0,
    "bare_seconds": 5.4,
    "network_seconds": 5.5,
}
COPYING = dict.fromkeys(FIRST, 0.0) | {"seconds": 2.0}
SECOND = {**FIRST, "evaluations": 640.0, "seconds": 3.2, "bare_seconds": 3.0, "queued": 1200.0}


def test_rates_add_up_over_workers_and_shares_are_weighted() -> None:
    both = combined([[FIRST, COPYING], [SECOND]])
    assert both == pytest.approx(
        {
            "evaluations_per_second": 600 / 8 + 640 / 3.2,
            "share_of_bare_rate": 8.4 / 11.2,
            "rows_per_batch": 1240 / 80,
            "batch_size": 16,
            "queue": 25,
            "network_seconds": 11.0,
        }
    )
    assert as_line(both) == "275 evaluations/s, 75 % of the network alone, 15.5 of 16 rows a batch"
    assert {"what": "queue", "value": "25"} in as_table(both)


def test_nothing_is_said_where_nothing_was_evaluated() -> None:
    assert combined([]) == {}
    assert combined([[COPYING], []]) == {}
    assert as_line({}) == ""
