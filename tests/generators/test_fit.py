import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from generators.backbones.pixel_unet import PixelUnet
from generators.errors import CheckpointError, ConfigError, DataError
from generators.fit import Fit
from generators.fit_spec import FitSpec
from generators.registry import MethodSpec

SPEC = FitSpec(steps=30, batch_size=16, block_out_channels=(8, 16), learning_rate=5e-3, seed=5)


def stripes() -> tuple[Tensor, Tensor]:
    """Two classes: horizontal and vertical stripes, 8x8."""
    pixels = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    pixels[0, 0, ::2], pixels[1, 0, :, ::2] = 255, 255
    return pixels, torch.tensor([0, 1])


def make(spec: FitSpec = SPEC) -> Fit:
    return Fit(spec, *stripes(), 2, "cpu")


def weights(fit: Fit) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in fit.network.state_dict().items()}


@pytest.fixture(autouse=True)
def _global_random_state_is_left_alone() -> Iterator[None]:
    before = torch.random.get_rng_state()
    yield
    assert torch.equal(torch.random.get_rng_state(), before)


def test_loss_falls_and_progress_is_reported() -> None:
    reports = list(make().run(report_every=10))

    assert [report.step for report in reports] == [10, 20, 30]
    assert all(report.steps == 30 for report in reports)
    assert reports[-1].loss < 0.6 * reports[0].loss


def test_the_last_report_comes_at_the_end_even_between_intervals() -> None:
    spec = replace(SPEC, steps=7)
    assert [report.step for report in make(spec).run(report_every=5)] == [5, 7]


def test_interrupted_and_restored_equals_uninterrupted(tmp_path: Path) -> None:
    spec = replace(SPEC, steps=11)
    whole = make(spec)
    expected = list(whole.run(report_every=3))

    first = make(spec)
    run = first.run(report_every=3)
    early = [next(run), next(run)]
    state = first.state()
    next(run)  # the state must not follow the network that goes on
    torch.save(state, tmp_path / "state.pt")
    second = make(spec)
    second.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    late = list(second.run(report_every=3))

    assert early + late == expected
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(second)[name]), name
    for name, value in whole.state()["ema"].items():
        assert torch.equal(value, second.state()["ema"][name]), name


@pytest.mark.parametrize(("precision", "advice"), [("float32", ":"), ("bfloat16", ", or prec")])
def test_divergence_is_a_clear_error_and_no_generator(precision: str, advice: str) -> None:
    wild = replace(SPEC, learning_rate=1e30, precision=precision)
    with pytest.raises(ConfigError, match=rf"learning_rate: 1e\+30 .* value{advice}.* by step"):
        list(make(wild).run(report_every=10))


def test_another_seed_gives_another_network() -> None:
    one, other = weights(make()), weights(make(replace(SPEC, seed=6)))
    again = weights(make())

    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["conv_in.weight"], other["conv_in.weight"])


def test_saved_network_loads_with_the_same_output(tmp_path: Path) -> None:
    fit = make(replace(SPEC, steps=3, ema_decay=0.5))
    list(fit.run())
    fit.save(tmp_path / "net", {"class_names": ["horizontal", "vertical"], "seed": 5})
    backbone = PixelUnet(path=str(tmp_path / "net")).load("cpu")
    x_t = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    timesteps = torch.tensor([10.0, 900.0])

    averaged = fit.state()["ema"]
    fit.network.load_state_dict(
        {k.removeprefix("module."): v for k, v in averaged.items() if k.startswith("module.")}
    )
    with torch.no_grad():
        cond = {"class": torch.tensor([1, 2])}
        expected = fit.network.eval()(x_t, timesteps, class_labels=cond["class"]).sample
        torch.testing.assert_close(backbone.forward(x_t, timesteps, cond), expected)
    assert backbone.class_names == ("horizontal", "vertical")
    assert backbone.card["seed"] == 5
    assert json.loads((tmp_path / "net" / "card.json").read_text())["seed"] == 5


def test_average_of_the_weights_is_the_exponential_one() -> None:
    fit = make(replace(SPEC, steps=3, ema_decay=0.75))
    name = "conv_in.weight"
    seen = []
    for _ in fit.run(report_every=1):
        seen.append(weights(fit)[name])
    expected = seen[0]
    for value in seen[1:]:
        expected = 0.75 * expected + 0.25 * value

    torch.testing.assert_close(fit.state()["ema"][f"module.{name}"], expected)


def test_label_dropout_trains_the_null_class() -> None:
    always, never = make(replace(SPEC, label_dropout=0.999)), make(replace(SPEC, label_dropout=0))
    before = always.network.class_embedding.weight.detach().clone()
    next(always.run(report_every=1))
    next(never.run(report_every=1))
    moved = (always.network.class_embedding.weight.detach() - before).abs().amax(1) > 1e-4
    moved_without = (never.network.class_embedding.weight.detach() - before).abs().amax(1) > 1e-4

    assert moved.tolist() == [False, False, True]
    assert moved_without.tolist() == [True, True, False]


def test_schedule_ends_in_pure_noise() -> None:
    scheduler = make().scheduler

    assert float(scheduler.alphas_cumprod[-1]) == pytest.approx(0, abs=1e-12)
    assert scheduler.config.prediction_type == "v_prediction"
    assert scheduler.config.timestep_spacing == "trailing"


def test_data_and_widths_that_cannot_be_used_are_refused() -> None:
    pixels, labels = stripes()
    with pytest.raises(DataError, match="0 images"):
        Fit(SPEC, pixels[:0], labels[:0], 2, "cpu")
    with pytest.raises(DataError, match=r"images of 7x8 .* multiples of 2"):
        Fit(SPEC, pixels[:, :, :7], labels, 2, "cpu")
    for widths in ((), (12, 16), (0,)):
        with pytest.raises(ConfigError, match="multiples of 8"):
            make(replace(SPEC, block_out_channels=widths))


def test_timesteps_above_the_least_image_guidance_are_not_drawn() -> None:
    fit = make(replace(SPEC, least_image_guidance=70, batch_size=500))
    drawn = fit._batch().timesteps
    assert 290 < int(drawn.max()) < 300
    assert int(make(replace(SPEC, batch_size=500))._batch().timesteps.max()) > 900


def test_half_of_the_images_are_mirrored() -> None:
    pixels = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    pixels[..., :4] = 255
    spec = replace(SPEC, horizontal_flip=True, batch_size=400, least_image_guidance=99)
    fit = Fit(spec, pixels, torch.tensor([0]), 1, "cpu")
    batch = fit._batch()  # hardly any noise is in these
    mirrored = batch.x_t[:, 0, :, 0].mean(1) < 0
    assert 150 < int(mirrored.sum()) < 250


def test_patches_bfloat16_and_dropout_train_resume_and_load(tmp_path: Path) -> None:
    spec = replace(
        SPEC, steps=6, patch_size=2, precision="bfloat16", dropout=0.3, block_out_channels=(8,)
    )
    whole, first, second = make(spec), make(spec), make(spec)
    list(whole.run())
    next(first.run(report_every=4))
    second.restore(first.state())
    list(second.run())
    assert whole.network.config.in_channels == 4
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(second)[name]), name
    whole.save(tmp_path / "net", {"class_names": ["horizontal", "vertical"]})
    backbone = PixelUnet(path=str(tmp_path / "net")).load("cpu")
    assert backbone.sample_shape == (1, 8, 8)
    x_t = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    timesteps = torch.tensor([10.0, 900.0])
    found = backbone.forward(x_t, timesteps, {"class": torch.tensor([1, 2])})
    with torch.no_grad():
        network: Any = whole._ema.module.eval()
        labels = torch.tensor([1, 2])
        patches = torch.stack([x_t[:, 0, i::2, j::2] for i in (0, 1) for j in (0, 1)], dim=1)
        seen = network(patches, timesteps, class_labels=labels).sample
    for number, (i, j) in enumerate((i, j) for i in (0, 1) for j in (0, 1)):
        torch.testing.assert_close(found[:, 0, i::2, j::2], seen[:, number])


def test_patches_are_part_of_the_fingerprint_and_of_the_check(tmp_path: Path) -> None:
    fit = make(replace(SPEC, steps=1, patch_size=2, block_out_channels=(8,)))
    fit.save(tmp_path, {"class_names": ["horizontal", "vertical"]})
    before = PixelUnet(path=str(tmp_path)).load("cpu").fingerprint
    card = json.loads((tmp_path / "card.json").read_text())
    for size in (1, 4, 0, "two"):
        (tmp_path / "card.json").write_text(json.dumps({**card, "patch_size": size}))
        if size in (1, 4):
            assert PixelUnet(path=str(tmp_path)).load("cpu").fingerprint != before
        else:
            with pytest.raises(CheckpointError, match="patch_size"):
                PixelUnet(path=str(tmp_path)).check()


def test_images_that_patches_do_not_divide_are_refused() -> None:
    with pytest.raises(DataError, match="multiples of 6"):
        Fit(replace(SPEC, patch_size=3), *stripes(), 2, "cpu")
    with pytest.raises(ConfigError, match="objective"):
        FitSpec(objective=MethodSpec(name="no_such"))
