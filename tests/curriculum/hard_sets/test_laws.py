"""What holds for every hard set, by name: a new file is under these at once."""

import pytest
import torch

from generators.registry import MethodSpec, build, names


@pytest.mark.parametrize("name", names("hard_set"))
def test_permuting_the_images_permutes_the_marks(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (60,), generator=generator)
    logits = torch.randint(-2, 3, (60, 4), generator=generator).float()  # with ties
    counts = torch.bincount(labels, minlength=4)
    order = torch.randperm(60, generator=generator)
    method = build("hard_set", MethodSpec(name=name))
    given = logits if method.needs_logits else None
    marks = method.select(given, labels, counts)
    again = method.select(None if given is None else given[order], labels[order], counts)
    assert marks.shape == (60,)
    assert marks.dtype == torch.bool
    assert torch.equal(marks[order], again)
