import shutil

import pytest

import regraft
from small import without


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


def test_other_classes_are_refused_by_name(small_run, tmp_path):
    from PIL import Image

    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for index in range(4):
                Image.new("RGB", (20, 20), (index, 0, 0)).save(tmp_path / "pets" / split / name / f"{index}.png")
    with pytest.raises(ValueError, match=r"The run has: 0, 1, .*The data has: cat, dog"):
        regraft.evaluate([f"ckpt_path={small_run.path}", "data=folder", f"data.root={tmp_path / 'pets'}"])
