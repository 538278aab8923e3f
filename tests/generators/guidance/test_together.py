from tests.support.guidance import Laws, given

LAWS = Laws(
    grid=given(
        {"methods": [{"name": "cfg", "guidance_scale": 3.0}]},
        {"methods": [{"name": "cfg_pp", "guidance_scale": 0.5}]},
    ),
    off=lambda *_: {"methods": [{"name": "cfg", "guidance_scale": 1.0}]},
)
