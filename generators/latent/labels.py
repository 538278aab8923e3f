"""Names of the classes of a class-conditional checkpoint, as its `id2label` gives them."""

from collections import Counter
from collections.abc import Mapping

from generators.errors import CheckpointError
from generators.registry import JsonValue


def class_indices(id2label: Mapping[str, JsonValue] | None, num_classes: int) -> dict[str, int]:
    """Every name a class can be called by, to its index; indices in words are names, too.

    A label lists synonyms between commas ("tench, Tinca tinca"): the whole label is a name, and so
    is each synonym. A name that several classes share (ImageNet has two cranes) is left out: their
    numbers tell them apart.

    Raises:
        CheckpointError: a label of a class that the network does not have.
    """
    owners: dict[str, set[int]] = {}
    for key, label in (id2label or {}).items():
        if not str(key).isdecimal() or int(key) >= num_classes:
            raise CheckpointError(
                f"model_index.json: id2label names class {key!r}; expected 0..{num_classes - 1}"
            )
        for name in (str(label), *str(label).split(",")):
            owners.setdefault(name.strip(), set()).add(int(key))
    numbers = {str(index): index for index in range(num_classes)}
    shared = Counter({name: len(classes) for name, classes in owners.items()})
    labels = {
        name: min(classes)
        for name, classes in owners.items()
        if shared[name] == 1 and name not in numbers
    }
    return {**labels, **numbers}
