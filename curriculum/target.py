"""How many synthetic images each class gets. Knows no levels and no sources."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from generators.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationTarget:
    """How many synthetic images a hard class gets at each level; one field is set.

    Attributes:
        match_many: fill up to the mean count of the `many` classes (the largest class if none).
        per_class: this many.
        factor: this many for each real image.
    """

    match_many: bool = False
    per_class: int | None = None
    factor: float | None = None

    def wanted(
        self,
        class_counts: NDArray[np.int64],
        hard_counts: NDArray[np.int64],
        shots: NDArray[np.str_],
    ) -> NDArray[np.int64]:
        """Images per class (num_classes,) at each level; 0 for classes without hard images.

        Args:
            class_counts: real training images per class.
            hard_counts: hard images per class.
            shots: `many`, `medium` or `few` per class.

        Raises:
            DataError: no class needs any.
        """
        if self.per_class is not None:
            wanted = np.full_like(class_counts, self.per_class)
        elif self.factor is not None:
            wanted = np.rint(class_counts * self.factor).astype(np.int64)
        else:
            many = class_counts[shots == "many"]
            goal = round(float(many.mean())) if len(many) else int(class_counts.max())
            wanted = np.maximum(goal - class_counts, 0)
        wanted = np.where(hard_counts > 0, wanted, 0)
        if not wanted.any():
            raise DataError(
                "nothing to generate: by `generation.target` every hard class has enough images; "
                "give `per_class: N` or `factor: k`, or another `hard_set`"
            )
        return wanted
