import shutil
from dataclasses import replace

import pytest

import regraft
from regraft.data.folder import FolderSource
from regraft.data.images import Splits
from small import digits_folder, without


def test_a_run_gives_the_metrics_that_training_printed(small_run):
    assert regraft.evaluate([f"ckpt_path={small_run.path}"]) == small_run.metrics


def test_a_lone_checkpoint_is_enough(small_run, tmp_path):
    shutil.copy(small_run.best_ckpt, tmp_path / "lone.ckpt")
    assert regraft.evaluate([f"ckpt_path={tmp_path / 'lone.ckpt'}"]) == small_run.metrics


def test_a_run_that_was_grafted_needs_its_source_no_more(small_run, tmp_path):
    source = shutil.copytree(small_run.path, tmp_path / "source")
    run = regraft.train([*without("model"), "model=checkpoint", f"model.path={source}"])
    shutil.rmtree(source)
    assert regraft.evaluate([f"ckpt_path={run.path}"]) == run.metrics


def test_the_validation_split_on_request(small_run):
    metrics = regraft.evaluate([f"ckpt_path={small_run.path}", "split=val"])
    best = max(row["val/acc"] for row in small_run.history(before_step=10**9) if "val/acc" in row)
    assert metrics["val/acc"] == pytest.approx(best)


def test_keys_of_the_run_can_be_overridden(small_run):
    metrics = regraft.evaluate([f"ckpt_path={small_run.path}", "data.batch_size=7", "trainer.precision=32-true"])
    assert metrics["test/acc"] == small_run.metrics["test/acc"]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("data.batchsize=7", r"data.batchsize: unknown key 'batchsize'. Did you mean 'batch_size'\?"),
        ("split=training", "split: unknown split 'training'"),
        ("trainer.limit_test_batches=0", "it leaves no batch to measure on"),
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


def test_the_classes_of_another_folder_are_found_by_name(small_run, tmp_path, monkeypatch):
    digits_folder(tmp_path / "all", {label: str(label) for label in range(10)})
    there = [f"ckpt_path={small_run.path}", "data=folder", f"data.root={tmp_path / 'all'}", "data.num_workers=0"]
    expected = regraft.evaluate(there)
    read = FolderSource.splits

    def last_class_first(source: FolderSource) -> Splits:
        splits = read(source)
        train, test = (replace(images, labels=9 - images.labels) for images in (splits.train, splits.test))
        return Splits(splits.class_names[::-1], train, test=test)

    # A folder's classes are sorted, so another order comes from elsewhere, such as a source of one's own.
    monkeypatch.setattr(FolderSource, "splits", last_class_first)
    assert regraft.evaluate(there) == pytest.approx(expected)
    assert expected["test/acc"] > 0.3
