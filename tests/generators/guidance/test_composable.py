from pathlib import Path

from generators.backbones.base import Backbone
from tests.support.guidance import Laws, Params


def grid_for(backbone: Backbone, folder: Path) -> list[Params]:
    first, second, *_ = backbone.class_names or ()
    return [
        {"guidance_scale": 2.0, "conditions": [{"class_name": second, "weight": 1.5}]},
        {"guidance_scale": 1.0, "conditions": [{"class_name": first, "weight": -0.5}]},
        {"guidance_scale": 3.0},
    ]


LAWS = Laws(grid=grid_for, off=lambda *_: {"guidance_scale": 1.0})
