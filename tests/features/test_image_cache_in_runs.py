"""Runs whose images are kept decoded: the same bits as decoding anew, also when one of them is resumed."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import regraft
from helpers.stopping import assert_same_end, stopped_run
from regraft.data.images import decoded_images
from regraft.features.store import catalog

OPTIONS = [
    *("data=folder", "data.root=photos", "data.num_workers=0", "data.batch_size=8", "model=simple_cnn"),
    *("model.image_size=8", "freezing=none", "augment=basic", "trainer=cpu", "trainer.max_epochs=2", "logger=csv"),
    "trainer.enable_progress_bar=false",
]


@pytest.fixture(autouse=True)
def _photos() -> None:
    generator = np.random.default_rng(0)
    for name in ("ant", "bee"):
        Path("photos", name).mkdir(parents=True)
        for number in range(12):
            pixels = generator.integers(0, 256, (20 + number, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(f"photos/{name}/{number}.png")


def labels() -> list[str]:
    return sorted(entry.label for entry in catalog.entries(catalog.default_dir()))


def test_a_run_that_decodes_is_gone_on_with_stored_images_to_the_same_bits(monkeypatch, caplog):
    options = [*OPTIONS, "callbacks.checkpoint.every_n_steps=1"]
    stopped = stopped_run(
        [*options, "data.cache=off"], monkeypatch, ("on_train_batch_end",), lambda trainer: trainer.global_step == 2
    )
    assert labels() == []
    with caplog.at_level(logging.INFO, "regraft"):
        straight = regraft.train(options)
    assert "Images: 24 decoded" in caplog.text
    assert labels() == ["decoded images, 8 px", "decoded images, whole, 4.1 kB each"]
    monkeypatch.setattr(decoded_images, "decode_image", None)
    with caplog.at_level(logging.INFO, "regraft"):
        regraft.resume([f"run={stopped.path}", "data.cache=on"])
    assert "Images: 0 decoded, 24 read from the store" in caplog.text
    assert_same_end(stopped, straight)
    assert regraft.evaluate([f"run={straight.path}"])["test/acc"] == straight.metrics["test/acc"]


def test_what_is_not_stored_is_said(caplog):
    with caplog.at_level(logging.DEBUG, "regraft"):
        regraft.train([*OPTIONS, "trainer.max_epochs=1"])
    (said,) = [record for record in caplog.records if "Decoded images aren't stored" in record.message]
    assert (said.levelno, "fewer than two epochs read them" in said.message) == (logging.DEBUG, True)
    assert labels() == []


def test_no_room_is_said_and_insisting_is_refused(caplog):
    with caplog.at_level(logging.WARNING, "regraft"):
        regraft.train([*OPTIONS, "features.max_gb=1e-6"])
    assert "They are decoded again in each epoch" in caplog.text
    with pytest.raises(ValueError, match=r"data\.cache: .*GB of decoded images are needed"):
        regraft.train([*OPTIONS, "features.max_gb=1e-6", "data.cache=on"])


def test_images_in_memory_need_no_store():
    with pytest.raises(ValueError, match=r"data\.cache: got 'on', but this data set's images are in memory"):
        regraft.train(["data=digits", "data.cache=on", *OPTIONS[3:], "trainer.fast_dev_run=true"])
