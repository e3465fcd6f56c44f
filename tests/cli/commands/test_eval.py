import csv
import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import regraft
from helpers.command_line import run_main
from helpers.small import digits_folder, without
from regraft.data.sources.base import Splits
from regraft.data.sources.folder import FolderSource


def test_a_run_gives_the_metrics_that_training_printed(small_run):
    metrics = regraft.evaluate([f"ckpt_path={small_run.path}"])
    assert metrics.items() >= small_run.metrics.items()
    assert metrics["test/acc_low"] < metrics["test/acc"] < metrics["test/acc_high"]
    assert metrics["test/log_loss"] == pytest.approx(metrics["test/loss"], abs=1e-5)
    assert metrics.keys() > {"test/balanced_acc", "test/auroc", "test/ece"}


def test_a_lone_checkpoint_is_enough(small_run, tmp_path):
    shutil.copy(small_run.best_ckpt, tmp_path / "lone.ckpt")
    assert regraft.evaluate([f"ckpt_path={tmp_path / 'lone.ckpt'}"]).items() >= small_run.metrics.items()


@pytest.mark.slow
def test_a_run_that_was_grafted_needs_its_source_no_more(small_run, tmp_path):
    source = shutil.copytree(small_run.path, tmp_path / "source")
    run = regraft.train([*without("model"), "model=checkpoint", f"model.path={source}"])
    shutil.rmtree(source)
    assert regraft.evaluate([f"ckpt_path={run.path}"]).items() >= run.metrics.items()


def test_the_validation_split_on_request(small_run):
    metrics = regraft.evaluate([f"ckpt_path={small_run.path}", "split=val"])
    best = max(row["val/acc"] for row in small_run.logged_rows(before_step=10**9) if "val/acc" in row)
    assert metrics["val/acc"] == pytest.approx(best)


def test_keys_of_the_run_can_be_overridden(small_run):
    metrics = regraft.evaluate([f"ckpt_path={small_run.path}", "data.batch_size=7", "trainer.precision=32-true"])
    assert metrics["test/acc"] == small_run.metrics["test/acc"]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("data.batchsize=7", r"data.batchsize: unknown key 'batchsize'. Did you mean 'batch_size'\?"),
        ("split=training", "split: unknown split 'training'"),
        ("trainer.limit_test_batches=0", "it leaves no batch to evaluate"),
        ("calibrate=platt", "calibrate: got 'platt'; allowed: temperature, threshold, thresholds, null"),
        ("calibrate=threshold", "it can't be fitted to a run of 10 classes .*; allowed: temperature, null"),
        ("metric=f1", "metric: it is what thresholds are fitted for. Add calibrate=threshold"),
        ("robustness=noise", "robustness: got 'noise'; allowed: corruptions, null"),
        ("trainer.limit_test_batches=few", "trainer.limit_test_batches: got 'few'; allowed: a number, null."),
        ("+foo=1", "eval: unknown key 'foo'"),
        ("baseline=last", "baseline: it normalises errors on corrupted inputs"),
    ],
)
def test_a_mistake_is_said(small_run, override, sentence):
    with pytest.raises(ValueError, match=sentence):
        regraft.evaluate([f"ckpt_path={small_run.path}", override])


def test_other_classes_are_refused_with_both_sides(small_run, tmp_path):
    digits_folder(tmp_path / "few", {0: "0", 1: "1", 2: "two"})
    sentence = r"Only in the run: 2, 3, 4, 5, 6, 7, 8, 9 \(8 of 10\)\. Only in the data: two \(1 of 3\)\."
    with pytest.raises(ValueError, match=sentence):
        regraft.evaluate([f"ckpt_path={small_run.path}", "data=folder", f"data.root={tmp_path / 'few'}"])


def test_the_classes_of_another_folder_are_found_by_name(small_run, tmp_path, monkeypatch, caplog):
    digits_folder(tmp_path / "all", {label: str(label) for label in range(10)})
    there = [f"ckpt_path={small_run.path}", "data=folder", f"data.root={tmp_path / 'all'}", "data.num_workers=0"]
    expected = regraft.evaluate(there)
    assert "of its own" not in caplog.text
    regraft.evaluate([*there, "split=val"])
    assert "The data has no val split: 6 of its 120 images were set aside as one and are evaluated." in caplog.text
    read = FolderSource.splits

    def last_class_first(source: FolderSource) -> Splits:
        splits = read(source)
        train, test = (replace(images, labels=9 - images.labels) for images in (splits.train, splits.test))
        return Splits(splits.class_names[::-1], train, test=test)

    # A folder's classes are sorted, so another order comes from elsewhere, such as a source of one's own.
    monkeypatch.setattr(FolderSource, "splits", last_class_first)
    assert regraft.evaluate(there) == pytest.approx(expected)
    assert expected["test/acc"] > 0.3


def test_a_temperature_is_fitted_on_validation_and_used_from_then_on(run):
    before = regraft.evaluate(["run=last"])
    fitted = regraft.evaluate(["run=last", "split=val", "calibrate=temperature"])
    kept = json.loads((run.path / "calibration.json").read_text())
    assert fitted["val/log_loss"] == pytest.approx(kept["log_loss_after"], abs=1e-6)
    assert kept["log_loss_after"] < kept["log_loss_before"]
    after = regraft.evaluate(["run=last"])
    assert after["test/acc"] == before["test/acc"]
    assert after["test/log_loss"] != before["test/log_loss"]
    assert regraft.load("last").temperature == kept["temperature"]


def test_corrupted_images_are_measured_beside_clean_ones(run, capsys):
    more = ["robustness=corruptions", f"baseline={run.path}", "trainer.limit_test_batches=1", "data.batch_size=8"]
    code, out, err = run_main(["eval", "run=last", *more], capsys)
    assert (code, err) == (0, f"Evaluating {run.path} on test ...\n")
    assert "jpeg_compression" in out
    found = json.loads(next(Path("outputs/eval").glob("*/results.json")).read_text())
    errors = found["robustness"]["found"]["errors"]
    assert found["robustness"]["found"]["num_images"] == found["num_images"] == 8
    assert len(errors) == 13
    mean = sum(map(sum, errors.values())) / 65
    assert found["metrics"]["test/corruption_error"] == pytest.approx(mean)
    # Divided by itself.
    assert found["metrics"]["test/mce"] == 1


def test_another_domain_may_lack_classes(run, tmp_path, capsys):
    digits_folder(tmp_path / "there", {3: "3", 4: "4"})
    code, out, _ = run_main(["eval", "run=last", f"shift={tmp_path / 'there'}"], capsys)
    assert code == 0
    assert "no image of 0, 1, 2, 5, 6, 7, 8, 9; both accuracies are over its classes only" in out
    folder = next(Path("outputs/eval").glob("*"))
    found = json.loads((folder / "results.json").read_text())
    shift = found["shift"]
    assert shift["target"]["num_images"] == 12
    of_both = sum(row["num_images"] for row in found["per_class"][3:5])
    assert shift["source"]["num_images"] == of_both
    assert shift["drop"] == pytest.approx(shift["source"]["value"] - shift["target"]["value"])
    with (folder / "per_class.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["shift/num_images"] for row in rows] == ["0", "0", "0", "6", "6", "0", "0", "0", "0", "0"]


def test_another_domain_has_no_class_of_its_own(run, tmp_path):
    digits_folder(tmp_path / "there", {3: "3", 4: "four"})
    with pytest.raises(ValueError, match=r"shift: it has classes that .* doesn't know: four \(1 of 2\)"):
        regraft.evaluate(["run=last", f"shift={tmp_path / 'there'}"])
    with pytest.raises(FileNotFoundError, match="shift: there is no folder or table nowhere"):
        regraft.evaluate(["run=last", "shift=nowhere"])


def test_a_temperature_of_a_part_of_the_validation_is_not_kept(run, caplog):
    (run.path / "calibration.json").unlink(missing_ok=True)
    regraft.evaluate(["run=last", "split=val", "calibrate=temperature", "trainer.limit_val_batches=1"])
    assert not (run.path / "calibration.json").exists()
    assert "holds for this evaluation only" in caplog.text


def test_a_temperature_that_cant_be_kept_costs_nothing_else(run, caplog, monkeypatch):
    def read_only(*given):
        raise PermissionError(errno.EACCES, "Permission denied", "calibration.json")

    monkeypatch.setattr("regraft.runs.calibration.write_json", read_only)
    assert "val/acc" in regraft.evaluate(["run=last", "split=val", "calibrate=temperature"])
    assert "can't be kept in" in caplog.text
    assert "(Permission denied)" in caplog.text


def test_without_a_run_it_says_how_one_is_named():
    with pytest.raises(ValueError, match="run: it has no value yet; add run=last"):
        regraft.evaluate([])
