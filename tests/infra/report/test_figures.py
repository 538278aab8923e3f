import numpy as np
import pyarrow as pa
import pytest

from infra.report.comparison_figures import arm_variable, class_order
from infra.report.counts import fates, level_facts, summary
from infra.report.image_figures import mixture_text, runs
from infra.report.pictures import short_name
from infra.report.svg import COLORS, VARIABLES, drawing, label, level_variable, to_svg
from infra.report.tables import comparison_table
from tests.infra.report import example_run


def test_stretches_of_equal_mixtures() -> None:
    mixtures = [{0: 1.0}, {0: 1.0}, {0: 0.5, 50: 0.5}, {100: 1.0}]
    assert [(start, length) for start, length, _ in runs(mixtures)] == [(0, 2), (2, 1), (3, 1)]
    text = "epochs 1–2 level 0, epoch 3 level 0 + level 50, epoch 4 real images"
    assert mixture_text(mixtures) == text


def test_timeline_is_the_schedule_without_training() -> None:
    facts = example_run.facts(example_run.Example(), {"baseline": [80], "curriculum": [81]})
    # 20 epochs, the last 2 on real data; 18 over 5 levels: 4, 4, 4, 3, 3
    stretches = [
        (length, next(iter(mixture))) for _, length, mixture in runs(facts.timeline("curriculum"))
    ]
    assert stretches == [(4, 0), (4, 20), (4, 40), (3, 60), (3, 80), (2, 100)]
    assert runs(facts.timeline("baseline")) == [(0, 20, {100: 1.0})]


def test_colours_of_levels_follow_their_rank() -> None:
    levels = (0, 10, 50, 90, 100)
    found = [level_variable(level, levels) for level in levels]
    assert found == ["level-0", "level-3", "level-5", "level-8", "real"]
    assert level_variable(30, (30,)) == "level-0"


def test_arms_keep_their_colours() -> None:
    few = {"baseline": [80], "curriculum": [81], **{f"arm{i}": [80] for i in range(7)}}
    compare = {name: {"schedule": "mixed"} for name in few if name.startswith("arm")}
    facts = example_run.facts(example_run.Example(compare=compare), few)
    assert [arm_variable(facts, arm) for arm in few] == [
        "baseline",
        "accent",
        *(f"arm-{i}" for i in range(6)),
        "arm-0",
    ]


def test_stand_in_colours_differ() -> None:
    assert len(set(COLORS.values())) == len(VARIABLES)


def test_svg_keeps_text_as_text_and_prefixes_ids() -> None:
    with drawing(80) as (figure, axes):
        axes.set_title("$a_b$ <b>")
        axes.plot([0, 1], [0, 1], color=COLORS["accent"])
        text = to_svg(figure, "one", 'says "x" & <y>')
    assert "$a_b$ &lt;b&gt;" in text
    assert 'aria-label="says &#34;x&#34; &amp; &lt;y&gt;"' in text
    assert "var(--accent)" in text
    assert 'id="one-' in text
    assert ' id="axes' not in text
    assert text.startswith("<svg viewBox=")


def test_labels_are_short_and_printable() -> None:
    assert label("a\x00b\nc") == "a b c"
    assert label("x" * 30, 10) == "x" * 9 + "…"


def test_classes_are_ordered_by_count() -> None:
    example = example_run.Example(counts=(2, 30, 2, 8), class_names=("a", "b", "c", "d"))
    facts = example_run.facts(example, {"baseline": [80], "curriculum": [81]})
    assert class_order(facts) == [1, 3, 0, 2]


def test_best_of_each_column_is_marked() -> None:
    few = {"baseline": (80, 82), "curriculum": (90, 91), "mixed": (95, 95)}
    table = comparison_table(example_run.facts(example_run.Example(), few))
    column = table.titles.index("Few")
    assert [row.cells[column].mark for row in table.rows] == ["", "", "best"]
    assert table.rows[1].cells[column].value == "90.5"
    assert table.rows[1].cells[column].note == "± 6.4"  # t(1) = 12.706, std 0.707, over sqrt 2
    column = table.titles.index("Many")
    assert [row.cells[column].mark for row in table.rows] == ["best"] * 3
    column = table.titles.index("ECE")
    assert [row.cells[column].mark for row in table.rows] == ["", "", "best"]


def test_fates_and_scores_by_level() -> None:
    manifest = pa.table(
        {
            "image_guidance": [0, 0, 0, 50, 50],
            "label": [1, 1, 2, 1, 2],
            "status": ["ok", "filtered", "failed", "ok", "filtered"],
            "reason": ["", "far", "not_finite", "", "near"],
            "score_x": [0.2, 0.4, None, float("nan"), 1.0],
        }
    )
    low, high = level_facts(manifest)
    assert (low.fates.requested, low.fates.accepted) == (3, 1)
    assert low.fates.rejected == {"far": 1}
    assert low.fates.failed == {"not_finite": 1}
    assert low.scores["score_x"].mean == pytest.approx(0.3)
    assert low.scores["score_x"].low == pytest.approx(0.25)
    assert high.scores["score_x"].median == 1.0
    assert fates(manifest).rejected == {"far": 1, "near": 1}
    assert summary(pa.chunked_array([np.array([np.nan])])) is None


def test_short_names_of_scores() -> None:
    one = ("score_classifier_probability", "score_classifier_similarity")
    assert [short_name(name, one) for name in one] == ["prob.", "sim."]
    two = (*one, "score_clip_similarity")
    assert short_name(two[2], two) == "clip similarity"
