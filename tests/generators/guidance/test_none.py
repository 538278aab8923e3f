import pytest

from generators.guidance.none import NoGuidance
from tests.generators.guidance.test_cfg import COND, LEVEL, TARGET, X_T, prediction
from tests.support.guidance import Laws, given

LAWS = Laws(grid=given({}), off=None)


def test_no_guidance_asks_for_the_conditional_prediction() -> None:
    guidance = NoGuidance()
    program = guidance.denoiser(TARGET)(X_T, LEVEL)
    (call,) = next(program)
    answer = prediction(0.2, 0.3)
    with pytest.raises(StopIteration) as stop:
        program.send((answer,))
    assert stop.value.value is answer
    assert call.cond is COND
    assert (guidance.calls_per_step, guidance.needs_unconditional) == (1.0, False)
