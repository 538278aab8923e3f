from tests.support.guidance import Laws, given

LAWS = Laws(
    grid=given(
        {"guidance_scale": 2.0},
        {"guidance_scale": 4.0, "threshold": 0.9, "space": "x_0"},
        {"guidance_scale": 3.0, "threshold": 1.5},
    ),
    off=lambda *_: {"guidance_scale": 1.0},
)
