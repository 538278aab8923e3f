import pytest
import torch

from generators.noise import NoiseLevel
from generators.program import ModelCall, Prediction, Program, gather


def call(value: float) -> ModelCall:
    level = NoiseLevel(timestep=0, alpha=1, sigma=0, progress=0)
    return ModelCall(x_t=torch.full((1, 1, 1), value), level=level, cond={})


def answer(value: float) -> Prediction:
    return Prediction(x_0=torch.full((1, 1, 1), value), eps=torch.zeros(1, 1, 1))


def counting(start: int, rounds: int, calls_per_round: int = 1) -> Program[list[float]]:
    """Asks for `calls_per_round` evaluations a round and returns what it was sent."""
    heard = []
    for index in range(rounds):
        base = start + 10 * index
        predictions = yield tuple(call(base + k) for k in range(calls_per_round))
        heard += [float(prediction.x_0) for prediction in predictions]
    return heard


def test_gather_puts_the_calls_of_all_programs_into_one_batch() -> None:
    program = gather(counting(200, 1, calls_per_round=2), counting(100, 2), counting(300, 0))

    first = next(program)
    assert [float(c.x_t) for c in first] == [200, 201, 100]
    second = program.send(tuple(answer(float(c.x_t) + 0.5) for c in first))
    assert [float(c.x_t) for c in second] == [110]
    with pytest.raises(StopIteration) as stop:
        program.send((answer(110.5),))
    assert stop.value.value == ([200.5, 201.5], [100.5, 110.5], [])


def test_gather_of_nothing_asks_for_nothing() -> None:
    with pytest.raises(StopIteration) as stop:
        next(gather())
    assert stop.value.value == ()
