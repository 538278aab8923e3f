from generators.registry import MethodSpec
from tests.support.guidance import Laws, given

LAWS = Laws(
    grid=given({"guidance_scale": 0.6}, {"guidance_scale": 0.2}, {"guidance_scale": 1.0}),
    off=lambda *_: {"guidance_scale": 0.0},
    off_equals=MethodSpec(name="cfg", params={"guidance_scale": 0.0}),
)
