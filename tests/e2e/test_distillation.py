"""Teacher and student runs on a tiny scale: resumed is the same, caches change nothing, wrong is refused."""

import csv
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs the extra `train`")
pytest.importorskip("lightning", reason="training needs the extra `train`")

import timm  # noqa: E402

from cytolite import pipeline  # noqa: E402
from cytolite.config import DistillSettings, TrainSettings  # noqa: E402
from cytolite.errors import InputError  # noqa: E402
from cytolite.networks import unetr_decoder as unetr  # noqa: E402
from cytolite.networks.weights import tensors_hash  # noqa: E402
from cytolite.training import tasks  # noqa: E402
from cytolite.training.run import CHECKPOINT, trained_network  # noqa: E402
from fakes import coloured_store  # noqa: E402

SMALL = {
    "pretrained": False, "crop_px": 64, "batch": 2, "steps_per_epoch": 2, "epochs": 2, "warmup_steps": 1,
    "held_back": 0.5, "loaders": 0, "threads": 1,
}  # fmt: skip
VIT = "vit_tiny_patch16_224"


@pytest.fixture(scope="module", autouse=True)
def narrow():
    """The decoder as it is, with fewer channels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unetr, "WIDTHS", (8, 8, 16, 16, 16))
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return coloured_store(tmp_path_factory.mktemp("store"), 2)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """What stands in for a foundation model's file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "vit.pth"
    torch.save(timm.create_model(VIT).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def teacher(store, weights, tmp_path_factory):
    """A frozen transformer under the UNETR decoder, trained with the paper's losses."""
    out = tmp_path_factory.mktemp("runs") / "teacher"
    settings = TrainSettings(
        **SMALL | {"encoder": VIT, "pretrained": True, "weights": weights, "frozen": True, "loss": "paper", "mpp": 0.5}
    )
    pipeline.train([store], out, settings)
    return out, settings


def losses_of(out):
    """Every value that was logged, in order, over all starts of the run."""
    rows = []
    for path in sorted(out.glob("csv/*/metrics.csv")):
        with path.open() as file:
            rows += [
                (row["epoch"], row["step"], key, value)
                for row in csv.DictReader(file)
                for key, value in sorted(row.items())
                if value and key not in ("epoch", "step")
            ]
    return rows


def test_a_teachers_checkpoint_leaves_the_frozen_encoder_where_it_is(teacher, weights, tmp_path):
    out, _ = teacher
    state = torch.load(out / CHECKPOINT, weights_only=False)["state_dict"]
    assert not [name for name in state if "encoder." in name]
    network = trained_network(out)[0]
    assert network.frozen
    given = torch.load(weights, weights_only=True)
    torch.testing.assert_close(
        network.encoder.body.state_dict()["blocks.3.mlp.fc1.weight"], given["blocks.3.mlp.fc1.weight"]
    )
    torch.testing.assert_close(
        network.decoder.state_dict()["last.0.weight"], state["average.module.decoder.last.0.weight"]
    )
    # The file's content is part of the run: another one under the same name is not taken for it.
    record = json.loads((out / "settings.json").read_text())
    other = tmp_path / "run"
    (other / "checkpoints").mkdir(parents=True)
    (other / CHECKPOINT).write_bytes((out / CHECKPOINT).read_bytes())
    changed = tmp_path / "vit.pth"
    torch.save({name: tensor + 1 for name, tensor in given.items()}, changed)
    record["encoder"]["path"] = str(changed)
    (other / "settings.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="other weights"):
        trained_network(other)


def test_a_teacher_is_pictured_and_logged(teacher):
    out, _ = teacher
    assert [path.name for path in sorted((out / "pictures").iterdir())] == ["epoch_000.png", "epoch_001.png"]
    logged = {key for _, _, key, _ in losses_of(out)}
    assert {"train/flow", "train/cross_entropy", "train/focal", "train/decoupling", "val/score"} <= logged


def test_decoding_cached_maps_trains_as_encoding_does(store, teacher, weights, tmp_path):
    """The maps are kept in float16; the losses are those without a cache to its rounding."""
    base = teacher[1].model_copy(update={"fixed_crops": 6})
    pipeline.train([store], tmp_path / "plain", base)
    cached = base.model_copy(update={"cache": tmp_path / "cache"})
    pipeline.train([store], tmp_path / "cached", cached)
    plain, found = losses_of(tmp_path / "plain"), losses_of(tmp_path / "cached")
    assert [row[:3] for row in plain] == [row[:3] for row in found]
    for (*_, key, wanted), (*_, value) in zip(plain, found, strict=True):
        if key.startswith("train/"):
            assert float(value) == pytest.approx(float(wanted), rel=2e-2), key
    # A second run with other losses finds the maps there.
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("cache/*/*.npy")}
    assert len(before) == 4
    pipeline.train([store], tmp_path / "again", cached.model_copy(update={"loss": "light", "epochs": 1}))
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("cache/*/*.npy")} == before


def distilled(teacher, store, out, **changes):
    settings = DistillSettings(**SMALL | {"encoder": "efficientnet_lite0"} | changes)
    pipeline.distill(str(teacher), [store], out, settings)
    return out


def test_a_distillation_stopped_in_between_ends_with_the_same_losses(store, teacher, tmp_path, monkeypatch):
    """Accumulated gradients, running average and early stopping included."""
    changes = {"epochs": 3, "accumulate": 2, "patience": 5}
    whole = distilled(teacher[0], store, tmp_path / "whole", **changes)
    score, calls = tasks.score_network, []

    def stop_in_second_epoch(*args):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("power cut")
        return score(*args)

    monkeypatch.setattr(tasks, "score_network", stop_in_second_epoch)
    with pytest.raises(RuntimeError, match="power cut"):
        distilled(teacher[0], store, tmp_path / "run", **changes)
    resumed = distilled(teacher[0], store, tmp_path / "run", **changes)
    found, wanted = losses_of(resumed), losses_of(whole)
    # The second epoch was trained twice; what was logged of it is the same both times.
    assert sorted(set(found)) == sorted(set(wanted))
    assert tensors_hash(trained_network(resumed)[0]) == tensors_hash(trained_network(whole)[0])
    logged = {key for _, _, key, _ in wanted}
    assert {"train/soft_flow", "train/soft_type", "train/flow", "train/nucleus", "train/type"} <= logged


def test_the_teacher_is_asked_once_for_all_runs_of_a_cache(store, teacher, tmp_path):
    """Maps to whole images: the first run keeps them, the next finds them, whatever its losses and crops."""
    cache = tmp_path / "cache"
    distilled(teacher[0], store, tmp_path / "first", cache=cache, epochs=1)
    [folder] = cache.iterdir()
    before = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    assert len(before) == 1  # one image trains, one validates
    distilled(teacher[0], store, tmp_path / "second", cache=cache, epochs=1, temperature=2.0, crop_px=32)
    assert {p: p.stat().st_mtime_ns for p in folder.iterdir()} == before
    assert [p.name for p in cache.iterdir()] == [folder.name]
    distilled(teacher[0], store, tmp_path / "third", cache=cache, epochs=1, teacher_tta=8)
    assert len(list(cache.iterdir())) == 2


def test_the_teacher_can_be_asked_at_each_step(store, teacher, tmp_path):
    out = distilled(teacher[0], store, tmp_path / "run", epochs=1, teacher_image="same")
    assert not (out / "soft_targets").exists()
    assert {"train/soft_flow", "train/soft_type"} <= {key for _, _, key, _ in losses_of(out)}


def test_several_teachers_are_named_in_the_record(store, teacher, tmp_path):
    settings = {"epochs": 1, "teachers": (str(teacher[0]),), "teacher_scales": (0.8, 1.0)}
    out = distilled("nuclei-light", store, tmp_path / "run", **settings)
    recorded = json.loads((out / "settings.json").read_text())["teacher"]["paths"]
    assert [Path(path).name for path in recorded] == ["nuclei-light", teacher[0].name]
    with pytest.raises(InputError, match="another teacher"):
        distilled("nuclei-light", store, out, **settings | {"teachers": ()})


def test_a_bundle_can_teach_and_another_teacher_is_another_run(store, teacher, tmp_path):
    out = distilled("nuclei-light", store, tmp_path / "run", epochs=1, mpp=0.5)
    record = json.loads((out / "settings.json").read_text())
    assert record["verb"] == "distill"
    assert record["teacher"]["paths"][0].endswith("nuclei-light")
    with pytest.raises(InputError, match="another teacher"):
        distilled(teacher[0], store, out, epochs=1, mpp=0.5)
    with pytest.raises(InputError, match="neither an embedded one"):
        distilled(tmp_path / "nothing", store, tmp_path / "x")


def test_a_distilled_student_becomes_a_bundle(store, teacher, tmp_path):
    more = tmp_path / "another"
    more.symlink_to(teacher[0])
    run = distilled(
        teacher[0],
        store,
        tmp_path / "run",
        epochs=1,
        teacher_scales=(0.8, 1.0),
        cache=tmp_path / "c",
        teachers=(str(more),),
    )
    card = (pipeline.export(run, tmp_path / "student", "1").path / "CARD.md").read_text()
    [command] = [line for line in card.splitlines() if line.startswith("cytolite distill")]
    assert command.startswith("cytolite distill teacher consep.h5 -o runs/student --no-pretrained")
    assert "--teachers another --teacher-scales 0.8 --teacher-scales 1.0" in command
    assert str(tmp_path) not in card


def test_training_starts_from_a_run(store, teacher, tmp_path):
    out, settings = teacher
    step = settings.model_copy(update={"start": str(out), "learning_rate": 1e-12, "epochs": 1})
    pipeline.train([store], tmp_path / "more", step)
    wanted, found = (dict(trained_network(path)[0].named_parameters()) for path in (out, tmp_path / "more"))
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, atol=1e-6, rtol=1e-4, msg=name)
    # The encoder came with the run, whatever the file holds: it is in the new run's checkpoint.
    assert tensors_hash(trained_network(tmp_path / "more")[0].encoder) == tensors_hash(trained_network(out)[0].encoder)
    assert "encoder" not in json.loads((tmp_path / "more" / "settings.json").read_text())
    with pytest.raises(InputError, match="its network is another"):
        pipeline.train([store], tmp_path / "x", TrainSettings(**SMALL | {"start": str(out)}))


def test_early_stopping_stops(store, tmp_path, monkeypatch):
    """A score that never gets better than in the first epoch, and a patience of two."""
    values = iter([0.5, 0.4, 0.5, 0.3, 0.2, 0.1])

    def log_score(self):
        self.log("val/score", next(values))

    monkeypatch.setattr(tasks.SupervisedTask, "on_validation_epoch_end", log_score)
    pipeline.train([store], tmp_path / "run", TrainSettings(**SMALL | {"epochs": 6, "patience": 2}))
    assert torch.load(tmp_path / "run" / CHECKPOINT, weights_only=False)["epoch"] == 2


def test_a_cache_without_crops_that_come_again_is_refused(store, tmp_path):
    with pytest.raises(InputError, match="fixed_crops"):
        pipeline.train([store], tmp_path / "r", TrainSettings(**SMALL | {"cache": tmp_path}))
    with pytest.raises(InputError, match="maps cannot be cached"):
        pipeline.train([store], tmp_path / "r", TrainSettings(**SMALL | {"cache": tmp_path, "fixed_crops": 4}))


@pytest.mark.parametrize("wrong", [{"precision": "17"}, {"devices": "many"}, {"strategy": "ddq"}])
def test_devices_that_lightning_does_not_know_are_one_sentence(store, tmp_path, wrong):
    with pytest.raises(InputError) as caught:
        pipeline.train([store], tmp_path / "r", TrainSettings(**SMALL | wrong))
    [(name, value)] = wrong.items()
    assert f"{name} = {value}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_of_an_older_version_goes_on(store, tmp_path):
    """Its record lacks the settings that came since: they have the values that it was trained with."""
    settings = TrainSettings(**SMALL | {"epochs": 1})
    out = tmp_path / "run"
    pipeline.train([store], out, settings)
    record = json.loads((out / "settings.json").read_text())
    del record["verb"]
    for name in ("decoder", "weights", "frozen", "loss", "focal_weight", "accumulate", "fixed_crops", "cache"):
        del record["settings"][name]
    (out / "settings.json").write_text(json.dumps(record))
    pipeline.train([store], out, settings)
    with pytest.raises(InputError, match="other settings"):
        pipeline.train([store], out, settings.model_copy(update={"loss": "paper"}))
