"""Two processes (gloo) train one classifier as one process does."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from curriculum.augment import Augment
from curriculum.mixture import Composition
from curriculum.team import ALONE, Team
from curriculum.train_spec import TrainSpec
from curriculum.trainer import Training
from generators.errors import ConfigError
from generators.registry import MethodSpec
from infra.storage.checkpoint import load_checkpoint, save_checkpoint
from tests.curriculum.test_trainer import SPEC, STAGES, TABLE

SGD = dataclasses.replace(SPEC, optimizer="sgd", learning_rate=0.05, epochs=3)
CUDA = MethodSpec(name="cuda")
LADE = {"loss": MethodSpec(name="lade"), "composition": Composition(tail_share=0.5)}
SPECS: dict[str, TrainSpec] = {
    "plain": SGD,
    "its loss looks at the whole batch": dataclasses.replace(SGD, **LADE),
    "mixup": dataclasses.replace(SGD, mixing=MethodSpec(name="mixup", params={"alpha": 0.4})),
    "partners": dataclasses.replace(SGD, mixing=MethodSpec(name="tail_cutmix"), augmentation=CUDA),
    "augmented, averaged, in stages": dataclasses.replace(
        SGD,
        augment=Augment(degrees=10, translate=0.1, horizontal_flip=0.5),
        ema_decay=0.8,
        schedule=STAGES,
        composition=Composition(tail_share=0.4, synthetic_weight=0.5),
    ),
    "cuda": dataclasses.replace(SGD, augmentation=CUDA),
    "adaptive": dataclasses.replace(
        SGD, schedule=MethodSpec(name="adaptive", params={"levels": [0, 50]})
    ),
    "timm": dataclasses.replace(SGD, model="test_resnet", image_size=(32, 32), learning_rate=1e-3),
    "adamw": dataclasses.replace(SPEC, epochs=2),
}


def found(training: Training) -> dict[str, Any]:
    reports = [dataclasses.asdict(report) for report in training.run()]
    return {"weights": dict(training.result.state_dict()), "reports": reports}


def train_in_team(rank: int, folder: str) -> None:
    """One of two processes. Saves what the leader found, and a state after each first epoch."""
    torch.set_num_threads(1)
    store = f"file://{folder}/rendezvous"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    results = {}
    for name, spec in SPECS.items():
        training = Training(spec, TABLE, team=Team(rank, 2))
        first = dataclasses.asdict(next(training.run()))
        if rank == 0:
            save_checkpoint(Path(folder) / f"{name}.pt", training.state())
        results[name] = found(training)
        results[name]["reports"].insert(0, first)
    torch.save(results, f"{folder}/{rank}")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("team")
    torch.multiprocessing.spawn(train_in_team, (str(folder),), nprocs=2)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_two_processes_find_what_one_finds(folder: Path, name: str) -> None:
    leader, other = (torch.load(folder / str(rank), weights_only=False)[name] for rank in (0, 1))
    alone = found(Training(SPECS[name], TABLE))
    atol = 1e-3 if name == "adamw" else 1e-5  # it divides by the size of gradients near 0
    for key, weight in alone["weights"].items():
        torch.testing.assert_close(leader["weights"][key], weight, atol=atol, rtol=0)
        assert torch.equal(leader["weights"][key], other["weights"][key])
    for ours, theirs, wanted in zip(
        leader["reports"], other["reports"], alone["reports"], strict=True
    ):
        assert ours == theirs
        assert ours["loss"] == pytest.approx(wanted["loss"], abs=1e-5)
        assert ours["mixture"] == wanted["mixture"]
        assert ours["strengths"] == wanted["strengths"]
        assert ours["feedback"] == pytest.approx(wanted["feedback"], abs=1e-5)


@pytest.mark.slow
def test_a_state_continues_in_a_team_of_another_size(folder: Path) -> None:
    for name, spec in SPECS.items():
        training = Training(spec, TABLE, team=ALONE)
        training.restore(load_checkpoint(folder / f"{name}.pt"))
        assert training.epoch == 1
        wanted = torch.load(folder / "0", weights_only=False)[name]["weights"]
        for key, weight in found(training)["weights"].items():
            torch.testing.assert_close(weight, wanted[key], atol=1e-3, rtol=0)


def test_what_a_team_cannot_share_is_refused() -> None:
    assert [Team(rank, 4).part(8) for rank in (0, 3)] == [slice(0, 2), slice(6, 8)]
    with pytest.raises(ConfigError, match=r"batch_size: 8 .* multiple of the 3 processes"):
        Training(SPEC, TABLE, team=Team(0, 3))
