"""Whole runs of several labels and of numbers, with the head in closed form, and what is made of them."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

import regraft
from helpers.coloured import NAMES, Coloured
from regraft.cli.commands import export
from regraft.data.images.samples import ArrayImages
from regraft.data.sources.base import Splits
from regraft.runs import outputs
from regraft.tasks import TASKS


@pytest.fixture(scope="module", params=["multilabel", "regression"])
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    return regraft.train(
        [
            *(
                "data=digits",
                "data._target_=helpers.coloured.Coloured",
                f"+data.kind={request.param}",
                "trust=[helpers]",
            ),
            *(f"task={request.param}", "model=simple_cnn", "model.image_size=16", "trainer=cpu", "logger=csv"),
            *("trainer.enable_progress_bar=false", f"output_dir={folder}", f"features.dir={folder}"),
        ]
    )


def test_the_head_finds_the_colours_and_says_how_well(run):
    task = TASKS[run.config["task"]["name"]]
    assert run.metrics[f"test/{task.headline}"] > 0.95
    assert run.results["cross_validation"][f"val/{task.headline}"] > 0.95
    assert {pick["solver"] for pick in run.results["closed_form"]} == {"ridge"}
    assert run.results["validation"] == "leave-one-out"
    assert run.results["num_images"]["train"] + run.results["num_images"]["test"] == 120
    report = (run.path / "report.html").read_text()
    assert f">{task.nouns.capitalize()}</h2>" in report
    assert (f" {task.nouns}: images of each</caption>" in report) == task.has_confidences


def test_the_evaluation_and_the_loaded_model_have_the_outputs_that_the_run_kept(run):
    task, kept = run.config["task"]["name"], outputs.read(run.path)
    assert kept is not None
    assert kept.task == task
    images = Coloured(task).splits().train
    model = regraft.load(run.path, trust=["helpers"])
    found = model.predict([images.pixels[index] for index in kept.indices.tolist()])
    np.testing.assert_allclose([each.probabilities for each in found], kept.outputs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.from_numpy(kept.targets), images.labels[kept.indices])
    metrics = regraft.evaluate([f"run={run.path}", "trust=[helpers]"])
    for name in TASKS[task].metrics():
        if f"test/{name.name}" in run.metrics:
            assert metrics[f"test/{name.name}"] == pytest.approx(run.metrics[f"test/{name.name}"], abs=1e-5)


def test_errors_on_corrupted_images_are_of_the_headline_metric(run):
    task = TASKS[run.config["task"]["name"]]
    few = ["robustness=corruptions", "data.batch_size=16", "trainer.limit_test_batches=1"]
    metrics = regraft.evaluate([f"run={run.path}", "trust=[helpers]", *few])
    clean = metrics["test/corruption_error"] - metrics["test/relative_corruption_error"]
    assert clean == pytest.approx(1 - metrics[f"test/{task.headline}"], abs=1e-4)


def test_another_domain_is_a_table_of_the_same_outputs(run, tmp_path):
    task = TASKS[run.config["task"]["name"]]
    images, names = Coloured(task.name).splits().train, NAMES[task.name]
    lines = [",".join(["file", *names])]
    for index in range(40):
        Image.fromarray(images.pixels[index].permute(1, 2, 0).numpy()).save(tmp_path / f"{index}.png")
        values = (f"{value:g}" for value in images.labels[index].tolist())
        lines.append(",".join([f"{index}.png", *values]))
    (tmp_path / "table.csv").write_text("\n".join(lines))
    metrics = regraft.evaluate([f"run={run.path}", f"shift={tmp_path / 'table.csv'}", "trust=[helpers]"])
    name = task.headline
    assert metrics[f"shift/{name}"] > 0.9
    assert metrics[f"shift/{name}_drop"] == pytest.approx(metrics[f"test/{name}"] - metrics[f"shift/{name}"], abs=1e-6)
    (tmp_path / "table.csv").write_text("\n".join(lines).replace("red", "violet"))
    with pytest.raises(ValueError, match="violet"):
        regraft.evaluate([f"run={run.path}", f"shift={tmp_path / 'table.csv'}", "trust=[helpers]"])


def test_what_makes_no_sense_is_refused_before_anything_is_computed(run):
    with pytest.raises(ValueError, match="simple_cnn'; allowed: timm's models"):
        regraft.export([f"run={run.path}", "format=hf", "trust=[helpers]"])


def test_eight_bits_cost_little_of_the_headline_metric(run, tmp_path, capsys):
    words = ["format=onnx", "quantize=int8", f"output={tmp_path / 'model.onnx'}", "trust=[helpers]"]
    export.run([f"run={run.path}", *words])
    name, out = TASKS[run.config["task"]["name"]].headline, capsys.readouterr().out
    before, after = re.search(rf"{name}, float32 and int8\D+([\d.]+), ([\d.]+)", out).groups()
    assert float(before) == pytest.approx(run.metrics[f"test/{name}"], abs=1e-3)
    assert float(after) > float(before) - 0.1
    assert "accuracy" not in out


def test_data_of_another_task_is_refused(run, monkeypatch):
    task = run.config["task"]["name"]
    monkeypatch.setattr(Coloured, "splits", lambda self: Splits(NAMES[task], classes(len(NAMES[task]))))
    with pytest.raises(ValueError, match=f"data: it is of task=classification, and the run's task is {task}"):
        regraft.evaluate([f"run={run.path}", "data.subset_seed=1", "trust=[helpers]"])


def classes(num):
    labels = torch.arange(60) % num
    return ArrayImages(torch.zeros(60, 3, 16, 16, dtype=torch.uint8), labels)
