"""Images through a model, a batch at a time, also when memory is short."""

import threading
import time

import numpy as np
import pytest
from PIL import Image

from helpers.serving_photos import colour_model
from regraft.deployment import image_reader
from regraft.deployment.classifier import Classifier
from regraft.deployment.predict import decode, pipeline

RED = np.full((9, 9, 3), (255, 0, 0), np.uint8)
NO_MEMORY = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")


def failing(error: Exception) -> object:
    def fail(*given: object) -> None:
        raise error

    return fail


def test_a_batch_without_memory_is_a_sentence_that_names_its_size(monkeypatch):
    monkeypatch.setattr(Classifier, "logits", failing(NO_MEMORY))
    with pytest.raises(ValueError, match=r"^batch_size: there is no memory for 4 views at once\. Use batch_size=2\."):
        colour_model().predict([RED, RED], tta="flip")
    with pytest.raises(ValueError, match=r"10 views at once\. Use tta=none"):
        colour_model().predict([RED], tta="ten_crop")


def test_an_image_without_memory_costs_nothing_but_itself(monkeypatch):
    seen = image_reader.views_of
    monkeypatch.setattr(
        image_reader,
        "views_of",
        lambda image, *given: (failing(NO_MEMORY) if image.shape[1] > 20 else seen)(image, *given),
    )
    found = colour_model().predict([RED, np.zeros((30, 30, 3), np.uint8), RED])
    assert [each.class_name for each in found] == ["red", None, "red"]
    assert found[1].error == "it takes more memory than there is"
    Image.fromarray(RED).save("red.png")
    monkeypatch.setattr("regraft.data.images.decoding.pixels_of", failing(MemoryError()))
    assert colour_model().predict(["red.png"])[0].error == found[1].error


def test_large_images_are_in_memory_one_at_a_time(monkeypatch):
    num, most, lock = 0, 0, threading.Lock()

    def seen(image, *given):
        nonlocal num, most
        with lock:
            num += 1
            most = max(most, num)
        time.sleep(0.02)
        with lock:
            num -= 1
        return view(image, *given)

    view = image_reader.views_of
    monkeypatch.setattr(image_reader, "views_of", seen)
    monkeypatch.setattr(pipeline.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(decode, "_LARGE_PIXELS", 80)
    Image.fromarray(RED).save("red.png")
    assert [each.class_name for each in colour_model().predict(["red.png"] * 6)] == ["red"] * 6
    assert most == 1
