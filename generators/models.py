"""What a guidance may use beside the network's predictions: other models, other conditionings.

Belongs to one backbone. Everything is loaded once, however many requests ask for it.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch

from generators.backbones.base import Backbone
from generators.errors import ConfigError, one_of
from generators.noise import NoiseLevel
from generators.program import Conditioning

T = TypeVar("T")


class Models:
    """Shared by all requests of a renderer. Holds no state of any of them.

    Args:
        backbone: the network that is guided.
        class_names: of the data set, by label; default: the network's.
        prompt: template with `{class_name}`, for networks that read text.
        walks: the noise levels that the run's requests visit, one sequence each image-guidance
            level, for methods that are made for some; empty where they are not known.
    """

    def __init__(
        self,
        backbone: Backbone,
        class_names: Sequence[str] = (),
        prompt: str = "{class_name}",
        walks: Sequence[Sequence[NoiseLevel]] = (),
    ) -> None:
        self.backbone, self.prompt, self.walks = backbone, prompt, tuple(walks)
        self.class_names = tuple(class_names or backbone.class_names or ())
        self._kept: dict[Hashable, Any] = {}

    def keep(self, key: Hashable, load: Callable[[], T]) -> T:
        """What `load` returned when it was first asked for; its tensors may have gradients."""
        if key not in self._kept:
            with torch.inference_mode(mode=False):
                self._kept[key] = load()
        found: T = self._kept[key]
        return found

    def unconditional(self) -> Conditioning:
        """The null conditioning; raises ConfigError if the network has none.

        Reading an empty prompt is a pass through the text encoders: done once.
        """
        return self.keep("unconditional", self.backbone.unconditional)

    def condition(self, class_name: str, prompt: str | None = None) -> Conditioning:
        """Of any class or prompt; default: the run's prompt of the class.

        Raises:
            ConfigError: a class that the network does not know.
        """
        text = self.prompt.format(class_name=class_name) if prompt is None else prompt
        return self.keep(
            ("condition", class_name, text),
            lambda: self.backbone.condition([text], [class_name])[0],
        )

    def label(self, class_name: str, at: str) -> int:
        """Index of a class of the data set; `at` is the field to name in errors.

        Raises:
            ConfigError: there is no such class.
        """
        if class_name not in self.class_names:
            raise ConfigError(at, class_name, one_of(self.class_names, class_name))
        return self.class_names.index(class_name)
