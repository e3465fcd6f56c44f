"""Runs on a store that is stale, damaged, full or shared: never a wrong feature, never a crash."""

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import regraft
from helpers.processes import start_regraft
from helpers.stopping import assert_same_end, stopped_run
from regraft.features import extract
from regraft.features.extractor import FeatureExtractor
from regraft.features.store import catalog, files
from regraft.runs.folder import Run

RESNET = ["model=cifar_resnet", "model.depth=8"]
"""Quick; its mean and deviation come from the images, so that another image changes all rows."""
PRETRAINED = ["model=efficientnet_lite0"]
OPTIONS = [
    *("model.image_size=32", "trainer=cpu", "trainer.max_epochs=2"),
    *("trainer.enable_progress_bar=false", "logger=csv", "freezing=linear_probe", "optimizer.lr=0.01"),
]
PHOTOS = ["data=folder", "data.root=photos", "data.num_workers=0", *OPTIONS]
NUM_PHOTOS = 24


@pytest.fixture(autouse=True)
def _photos() -> None:
    generator = np.random.default_rng(0)
    for name in ("ant", "bee"):
        Path("photos", name).mkdir(parents=True)
        for number in range(NUM_PHOTOS // 2):
            pixels = generator.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(f"photos/{name}/{number}.png")


def train(*overrides: str, model: Sequence[str] = RESNET) -> Run:
    return regraft.train([*PHOTOS, *model, *overrides])


train_pretrained = partial(train, model=PRETRAINED)


@pytest.fixture
def train_grafted(small_run) -> Callable[..., Run]:
    """Trains on the backbone of a small run, quicker than a pretrained one."""
    return partial(train, model=["model=checkpoint", f"model.path={small_run.path}"])


def num_computed(run: Run) -> Any:
    return run.results["features"]["num_computed"]


@cache
def fresh_metrics() -> dict[str, float]:
    """Returns the metrics of a run on the photos as they are at the start of each test."""
    return train("features.cache=off").metrics


def assert_right(stored: Run, fresh: dict[str, float] | None = None) -> None:
    fresh = fresh or fresh_metrics()
    for name in ("test/loss", "test/acc"):
        assert stored.metrics[name] == pytest.approx(fresh[name], abs=1e-4)


def segments() -> list[Path]:
    return list(catalog.default_dir().glob(f"*/*{files.SEGMENT_SUFFIX}"))


def test_labels_and_class_names_are_never_the_stores_and_a_new_class_is_the_only_thing_computed(train_grafted):
    train_grafted("features.cache=on")
    shutil.move("photos/ant/1.png", "photos/swap.png")
    shutil.move("photos/bee/1.png", "photos/ant/1.png")
    shutil.move("photos/swap.png", "photos/bee/1.png")
    shutil.move("photos/ant", "photos/wasp")  # now the second class
    relabelled = train_grafted("features.cache=on")
    assert num_computed(relabelled) == 0
    assert_right(relabelled, train_grafted("features.cache=off").metrics)
    Path("photos/cat").mkdir()
    for number in range(12):
        Image.new("RGB", (20, 20), (number * 20, 0, 0)).save(f"photos/cat/{number}.png")
    grown = train_grafted("features.cache=on")
    assert num_computed(grown) == 12
    assert_right(grown, train_grafted("features.cache=off").metrics)


def test_another_size_is_computed_anew(train_grafted):
    train_grafted("features.cache=on")
    assert num_computed(train_grafted("features.cache=on", "model.image_size=40")) == NUM_PHOTOS


@pytest.mark.slow
@pytest.mark.parametrize("change", ["model.weights=null", "features.dtype=bfloat16"])
def test_other_weights_or_another_dtype_is_computed_anew(change):
    train_pretrained("features.cache=on")
    assert num_computed(train_pretrained("features.cache=on", change)) == NUM_PHOTOS


def test_a_damaged_file_is_computed_again(caplog):
    train("features.cache=on")
    (segment,) = [path for path in segments() if "-" in path.name][:1]
    content = bytearray(segment.read_bytes())
    content[-5] ^= 1
    segment.write_bytes(content)
    with caplog.at_level("WARNING"):
        repaired = train("features.cache=on")
    assert f"{segment} is damaged" in caplog.text
    assert num_computed(repaired) > 0
    assert_right(repaired)
    assert num_computed(train("features.cache=on")) == 0


def test_a_store_that_cant_be_made_is_kept_in_memory(caplog):
    Path("taken").write_text("a file")
    with caplog.at_level("WARNING"):
        run = train("features.cache=on", "features.dir=taken")
    assert "can't be used as a store" in caplog.text
    assert num_computed(run) == NUM_PHOTOS
    assert_right(run)


def test_a_disk_that_fills_up_is_no_end(caplog, monkeypatch):
    from regraft.features.store import segments as written

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(written, "write_atomically", fail)
    with caplog.at_level("WARNING"):
        run = train("features.cache=auto", "trainer.max_epochs=4")
    assert "No space left on device" in caplog.text
    assert run.results["features"]["num_computed"] > 0


def test_what_was_stored_before_the_disk_filled_up_is_not_computed_again(monkeypatch, train_grafted):
    from regraft.features.store import segments as written

    write, with_pooled, num_written, sizes = written.write_atomically, FeatureExtractor.with_pooled, 0, []

    def fail_the_third_time(*given: Any) -> None:
        nonlocal num_written
        num_written += 1
        if num_written > 2:
            raise OSError(28, "No space left on device")
        write(*given)

    def counted(self: Any, inputs: Any, *given: Any) -> Any:
        sizes.append(len(inputs))
        return with_pooled(self, inputs, *given)

    monkeypatch.setattr(written, "write_atomically", fail_the_third_time)
    monkeypatch.setattr(extract, "BATCH_SIZE", 4)
    monkeypatch.setattr(extract, "Writer", partial(extract.Writer, flush_seconds=0))
    monkeypatch.setattr(FeatureExtractor, "with_pooled", counted)
    train_grafted("features.cache=on")
    assert sum(sizes) == NUM_PHOTOS + 4  # the batch that couldn't be written


def test_a_limit_that_is_too_small_says_so(caplog):
    with caplog.at_level("WARNING"):
        run = train("features.cache=on", "features.max_gb=1e-9")
    assert "features.max_gb" in caplog.text
    assert_right(run)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["augment=basic"], "the augmentation draws again in each epoch; features.views=8"),
        (["augment=basic", "augment.mixup_alpha=0.2", "features.views=2"], "mix images"),
        (["freezing=none"], "the first stage trains from the start"),
        (["features.views=-1"], r"features\.views: got -1; allowed"),
        (["features.dtype=int8"], r"features\.dtype: got 'int8'; allowed"),
    ],
)
def test_what_cant_be_stored_is_one_sentence(overrides, message):
    with pytest.raises(ValueError, match=message):
        train("features.cache=on", *overrides)


def test_validation_and_test_come_from_the_store_where_training_images_are_drawn_again(caplog):
    options = ["augment=basic", "data.val_fraction=0.25", "head=linear", "optimizer=adamw"]
    with caplog.at_level("INFO"):
        stored, computed = (train(*options, f"features.cache={cache}") for cache in ("auto", "off"))
    assert "Features: of validation and test images only: the augmentation draws again" in caplog.text
    assert 0 < num_computed(stored) < NUM_PHOTOS / 2
    assert stored.metrics == computed.metrics
    figures = [
        [{key: row[key] for key in row if key != "seconds"} for row in run.history()] for run in (stored, computed)
    ]
    assert figures[0] == figures[1]


def test_auto_says_why_it_stores_nothing(caplog):
    with caplog.at_level("INFO"):
        assert "features" not in train("augment=basic", "data.val_fraction=0").results
    assert "Features aren't stored: the augmentation draws again" in caplog.text


def test_who_trains_every_stage_isnt_told_of_features(caplog):
    with caplog.at_level("INFO"):
        train("freezing=none", "trainer.max_epochs=1")
    assert "Features" not in caplog.text


def test_copies_of_few_images_say_nothing_of_the_time_that_many_would_take(train_grafted):
    for path in list(Path("photos").glob("*/*.png")):
        for number in range(5):
            shutil.copy(path, path.with_stem(f"{path.stem}-{number}"))
    run = train_grafted("features.cache=on")
    assert num_computed(run) == NUM_PHOTOS
    assert run.results["features"]["seconds_saved"] is None


@pytest.mark.slow
def test_views_are_shared_by_seeds_and_named(caplog):
    views = ["data=digits", "data.fraction=0.1", "data.subset_seed=0", "augment=basic", "features.views=3"]
    with caplog.at_level("INFO"):
        first, second = (regraft.train([*OPTIONS, *PRETRAINED, *views, f"seed={seed}"]) for seed in (0, 1))
    assert "3 augmented views, drawn once," in caplog.text
    assert num_computed(first) > 3 * 100
    assert num_computed(second) == 0
    assert first.metrics != second.metrics


def two_at_once(*overrides: str) -> list[Run]:
    command = ["train", *PHOTOS, *RESNET, "features.cache=on", *overrides]
    started = [start_regraft([*command, f"hydra.run.dir=run{number}"]) for number in (0, 1)]
    for process in started:
        process.join(timeout=120)
    assert [process.exitcode for process in started] == [0, 0]
    return [Run(Path(f"run{number}").resolve()) for number in (0, 1)]


def test_two_processes_compute_once():
    runs = two_at_once()
    assert sum(map(num_computed, runs)) == NUM_PHOTOS
    assert runs[0].metrics == runs[1].metrics


@pytest.mark.slow
@pytest.mark.parametrize(
    "freezing",
    [
        pytest.param(["freezing=linear_probe"], marks=pytest.mark.slow),
        ["freezing=lp_ft", "freezing.probe_epochs=null", "head=linear"],
        pytest.param(["freezing=gradual"], marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_ends_as_one_never_stopped(freezing, monkeypatch):
    every_epoch = "callbacks.checkpoint.max_share=1"
    options = [*PHOTOS, *RESNET, *freezing, "trainer.max_epochs=4", "head.dropout=0.2", "augment=flip", every_epoch]
    straight = regraft.train([*options, "features.cache=on"])
    stopped = stopped_run(
        [*options, "features.cache=on"],
        monkeypatch,
        ("on_train_batch_end",),
        lambda trainer: trainer.current_epoch == 2,
    )
    assert_same_end(regraft.train([f"ckpt_path={stopped.path}"]), straight)


def test_what_lies_in_the_store_and_isnt_its_own_is_left_alone():
    train("features.cache=on")
    (pool,) = {path.parent for path in segments()}
    os.mkfifo(pool / f"{'0' * 32}-4{files.SEGMENT_SUFFIX}")
    (pool / f"{'1' * 32}-4{files.SEGMENT_SUFFIX}").mkdir()
    (pool / f"mine{files.SEGMENT_SUFFIX}").write_bytes(b"not a segment")
    run = train("features.cache=on")
    assert num_computed(run) == 0
    assert (pool / f"mine{files.SEGMENT_SUFFIX}").exists()
    assert_right(run)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param('{"fields": NaN}', marks=pytest.mark.slow),
        '{"fields": NaN, "label": "", "feature_shape": [], "dtype": "", "format": 1}',
    ],
)
def test_a_description_that_is_no_json_is_made_anew(content, caplog):
    train("features.cache=on")
    (pool,) = {path.parent for path in segments()}
    (pool / files.META).write_text(content)
    run = train("features.cache=on")
    assert num_computed(run) == NUM_PHOTOS
    assert "is emptied: meta.json is damaged" in caplog.text
    assert_right(run)


def test_a_photo_that_changes_while_it_is_read_is_said(monkeypatch):
    from regraft.data.images import decoding

    content_hash = decoding.content_hash
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "content_hash", lambda *parts: content_hash(*parts, b"changed"))
        with pytest.raises(ValueError, match=r"data\.root: .*photos/.*png has changed since this run began"):
            train("features.cache=on")
    assert num_computed(train("features.cache=on")) == NUM_PHOTOS


@pytest.mark.slow
def test_views_are_stored_whether_or_not_it_pays():
    views = ["augment=basic", "features.views=8", "trainer.max_epochs=2"]
    empty, full = train(*views), train(*views)
    assert empty.metrics == full.metrics
    assert num_computed(full) == 0
    with pytest.raises(ValueError, match=r"features\.views: got 8, but the first stage trains from the start"):
        train(*views, "freezing=none")
    with pytest.raises(ValueError, match=r"features\.views: got 8, but mixup and CutMix mix images"):
        train(*views, "augment.mixup_alpha=0.2")


def test_room_for_all_views_is_looked_for_before_one_of_them_is_computed(monkeypatch):
    views = ["augment=basic", "features.views=8", "features.max_gb=1e-5"]
    monkeypatch.setattr("regraft.features.store.store.memory_limit", lambda: 5_000.0)
    with pytest.raises(ValueError, match="fit neither the store nor a quarter of memory"):
        train(*views)
    assert segments() == []


@pytest.mark.slow
def test_where_only_some_of_it_fits_it_is_kept_in_memory(caplog):
    caplog.set_level(logging.INFO)
    views = ["augment=basic", "features.views=4"]
    run = train_pretrained(*views, "features.max_gb=3.3e-4")
    assert "kept in memory." in caplog.text
    assert caplog.text.count("are kept in memory for this run.") == 1
    assert run.metrics == train_pretrained(*views, "features.dir=elsewhere").metrics


def test_a_store_that_is_a_link_to_itself_is_no_store(caplog):
    Path("loop").symlink_to("loop")
    assert_right(train("features.cache=on", "features.dir=loop"))
    assert "loop" in caplog.text


def test_another_precision_of_the_trainer_is_an_obstacle(caplog):
    caplog.set_level(logging.INFO)
    assert "features" not in train("trainer.precision=bf16-true", "trainer.max_epochs=3").results
    assert "computes the frozen part in another precision" in caplog.text
    with pytest.raises(ValueError, match=r"features\.cache: got 'on', but trainer\.precision=bf16-true"):
        train("trainer.precision=bf16-true", "features.cache=on")


def test_an_evaluation_of_a_run_that_insisted_on_the_store_may_do_without():
    run = train(
        "freezing=lp_ft", "freezing.probe_epochs=null", "head=linear", "features.cache=on", "trainer.max_epochs=2"
    )
    found = regraft.evaluate([f"ckpt_path={run.path}"])
    assert {name: found[name] for name in run.metrics} == pytest.approx(run.metrics)
    with pytest.raises(ValueError, match="the run trained every stage"):
        regraft.evaluate([f"ckpt_path={run.path}", "features.cache=on"])


@pytest.mark.slow
def test_a_resumed_run_stores_as_it_did_whatever_the_store_holds_by_then(caplog):
    caplog.set_level(logging.INFO)
    straight = train("trainer.max_epochs=4", "scheduler=constant")
    train("features.precision=exact", "features.cache=on")
    short = train("trainer.max_epochs=3", "scheduler=constant")
    assert short.results["features"]["num_computed"] == 0
    shutil.rmtree(catalog.default_dir())
    resumed = regraft.train([f"ckpt_path={short.path}", "trainer.max_epochs=4"])
    # One epoch alone wouldn't pay.
    assert resumed.results["features"]["num_computed"] == NUM_PHOTOS
    assert resumed.metrics == straight.metrics
    fresh = train("features.cache=off", "trainer.max_epochs=1", "scheduler=constant")
    longer = regraft.train([f"ckpt_path={fresh.path}", "trainer.max_epochs=9", "features.cache=auto"])
    assert "features" not in longer.results
    assert "the run didn't store them when it began" in caplog.text


@pytest.mark.slow
def test_what_another_process_computes_meanwhile_takes_no_room_twice():
    size = sum(path.stat().st_size for path in _pool_after_a_run().iterdir())
    shutil.rmtree(catalog.default_dir())
    runs = two_at_once(f"features.max_gb={1.3 * size / 1e9}")
    assert sum(map(num_computed, runs)) == NUM_PHOTOS


def _pool_after_a_run() -> Path:
    train("features.cache=on")
    (pool,) = {path.parent for path in segments()}
    return pool


@pytest.mark.parametrize("mistake", ["+optimizer.lrr=1", "optimizer.betas=[0.9,2.0]"])
def test_a_mistake_in_the_optimizer_is_said_before_anything_is_computed(mistake):
    with pytest.raises(ValueError, match=r"optimizer\.lrr: unknown key|beta"):
        train("features.cache=on", mistake)
    assert segments() == []
