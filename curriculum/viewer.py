"""What a network in training makes of images: the signals that adaptive methods follow."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from curriculum.augmentations.base import Augmentation, Strengths
from curriculum.evaluate import EvaluateSpec, predict_images
from curriculum.loader import ImageTable
from curriculum.mixture import Indices
from curriculum.team import Team

N = TypeVar("N", np.float64, np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Viewer:
    """Looks at images of a table. In a team the leader does, and tells the others.

    Attributes:
        table: the images.
        spec: how they go through the network.
        team: who trains the network.
    """

    table: ImageTable
    spec: EvaluateSpec
    team: Team

    def true_class(self, network: nn.Module, indices: Indices) -> NDArray[np.float64]:
        """(n,) probability of the own class of these rows, unaugmented."""

        def look() -> NDArray[np.float64]:
            images, labels = self.table.read(indices), self.table.rows.labels[indices]
            found = predict_images(network, images, self.spec)
            return found.double().numpy()[np.arange(len(labels)), labels]

        return self._led(look, np.zeros(len(indices)))

    def strengths(
        self,
        network: nn.Module,
        augmentation: Augmentation,
        before: Strengths,
        rng: np.random.Generator,
    ) -> Strengths:
        """How strongly each class can be augmented now."""
        rows = self.table.rows
        trained = rows.trained()
        members = [np.flatnonzero(trained & (rows.labels == label)) for label in range(len(before))]

        def accuracy(labels: NDArray[np.int64], strength: int, count: int) -> NDArray[np.float64]:
            known = (members[label] for label in labels if len(members[label]))
            drawn = np.concatenate([rng.choice(own, count) for own in known])
            right = np.zeros(len(drawn))
            for begin in range(0, len(drawn), self.spec.batch_size):
                part = slice(begin, begin + self.spec.batch_size)
                images = self.table.read(drawn[part])
                images = augmentation.apply(images, np.full(len(images), strength), rng)
                found = predict_images(network, images, self.spec).argmax(1).numpy()
                right[part] = found == rows.labels[drawn[part]]
            return np.bincount(rows.labels[drawn], right, len(before))[labels] / count

        return self._led(lambda: augmentation.update(before, accuracy), before)

    def _led(self, look: Callable[[], NDArray[N]], blank: NDArray[N]) -> NDArray[N]:
        found = look() if self.team.leads else blank
        told: NDArray[N] = self.team.same(torch.from_numpy(found)).numpy()
        return told
