import torch

from curriculum.hard_sets.few_shot import FewShot
from generators.registry import MethodSpec, build


def test_marks_classes_strictly_below_the_threshold() -> None:
    labels = torch.tensor([0, 1, 2, 1, 2, 0])
    counts = torch.tensor([100, 20, 19])
    marks = FewShot().select(None, labels, counts)
    assert marks.dtype == torch.bool
    assert marks.tolist() == [False, False, True, False, True, False]
    assert build("hard_set", MethodSpec(name="few_shot", params={"threshold": 21})).select(
        None, labels, counts
    ).tolist() == [False, True, True, True, True, False]
    assert not FewShot().needs_logits
