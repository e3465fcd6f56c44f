"""Answers of models of several labels and of numbers."""

import asyncio
from dataclasses import replace

import httpx
import numpy as np
import pytest
import torch

from helpers.serving_photos import LIMITS, colour_model, photo
from regraft.deployment.export.program import DeployedModule
from regraft.deployment.predict.results import to_predictions
from regraft.deployment.serve.app import make_app
from regraft.deployment.serve.limits import Hosts
from regraft.tasks import TASKS


def answered(model):
    app = make_app(model, run="1", version="1", limits=LIMITS, hosts=Hosts(["127.0.0.1"], takes_addresses=False))

    async def sent():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            answer = await client.post("/predict", files={"photos": ("a.png", photo("yellow"))})
            return answer.json()["predictions"][0], (await client.get("/health")).json(), (await client.get("/")).text

    try:
        return asyncio.run(sent())
    finally:
        app.state.worker.close()


def test_labels_are_those_above_their_thresholds():
    model = replace(colour_model(), task=TASKS["multilabel"])
    answer, health, page = answered(model)
    assert answer["labels"] == ["red", "green"]
    assert answer["class_name"] == "red, green"
    assert answer["confidence"] is None
    assert list(answer["outputs"]) == ["red", "green", "blue"]
    assert answer["outputs"]["blue"] == pytest.approx(1 / (1 + np.exp(10)), abs=1e-6)
    assert health["task"] == "multilabel"
    assert "3 labels" in page
    none, _, _ = answered(replace(model, thresholds=np.ones(3)))
    assert (none["labels"], none["class_name"]) == ([], "no label")


def test_of_two_classes_the_threshold_decides():
    model = colour_model()
    thresholds = np.array([0.9, 0.1, 0.5])  # red and green are equally probable
    (found,) = to_predictions(["a.png"], np.array([[0.6, 0.4, 0.0]]), model.class_names, 2, thresholds)
    assert [each.class_name for each in found.top] == ["green", "red"]
    answer, _, _ = answered(replace(model, thresholds=thresholds))
    assert answer["class_name"] == answer["top"][0]["class_name"] == "green"
    assert answer["confidence"] == pytest.approx(0.5, abs=1e-4)
    assert answered(model)[0]["class_name"] == "red"


def test_numbers_have_their_unit():
    answer, health, page = answered(replace(colour_model(), task=TASKS["regression"], unit="kg"))
    assert answer["outputs"] == pytest.approx({"red": 20.0, "green": 20.0, "blue": -20.0})
    assert answer["class_name"] == "red 20 kg, green 20 kg, blue -20 kg"
    assert (answer["labels"], answer["top"]) == (None, [])
    assert health["unit"] == "kg"
    assert "3 targets" in page


@pytest.mark.parametrize(("task", "expected"), [("multilabel", torch.sigmoid), ("regression", lambda each: 2 * each)])
def test_an_exported_graph_ends_in_what_is_predicted(task, expected):
    model = replace(colour_model(), task=TASKS[task])
    images = torch.randn(2, 3, 8, 8)
    logits, outputs = DeployedModule(model.network, torch.nn.Identity(), model)(images)
    torch.testing.assert_close(outputs, expected(logits / model.temperature))


def test_predictions_as_a_table_have_a_column_for_each_output():
    model = replace(colour_model(), task=TASKS["multilabel"])
    red, green = (
        torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(3, 9, 9) for colour in ((255, 0, 0), (0, 255, 0))
    )
    found = model.predict([red, green])
    assert [each.labels for each in found] == [("red",), ("green",)]
    assert list(next(iter(found.table()))) == ["name", "labels", "red", "green", "blue", "error"]
    assert "3 labels: red, green, blue" in repr(model)
