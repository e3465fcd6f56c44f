import hashlib
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from helpers.made_runs import made_run
from regraft.report.run.curves import charts, phase_starts, stages_of, training_map
from regraft.report.run.errors import class_values, errors_of
from regraft.report.run.image_gallery import ShownImage
from regraft.report.run.record import read_record
from regraft.report.run.render import heatmap, to_html, to_markdown
from regraft.report.run.summary import conclusions
from regraft.report.run.writing import findings_of, write_report
from regraft.runs.predictions import Predictions, write


def said(targets, predicted, confidences=None):
    confidences = np.linspace(0.5, 0.9, len(targets)) if confidences is None else np.array(confidences)
    columns = (np.array(targets), np.array(predicted), confidences.astype(np.float32))
    return Predictions("test", np.arange(len(targets)), *columns)


def test_classes_and_pairs_are_counted_by_hand():
    found = errors_of(said([0, 0, 0, 1, 1, 2], [0, 1, 1, 1, 0, 2]), ("a", "b", "c", "never"))
    assert found.num_right == 3
    assert found.chance == (0, 0.5)
    assert found.pairs == [(0, 1, 2), (1, 0, 1)]
    assert (found.classes[0].precision, found.classes[0].recall) == (0.5, pytest.approx(1 / 3))
    assert class_values(found.classes[3]) == [None, None, None]
    assert found.shares[0].tolist() == pytest.approx([1 / 3, 2 / 3, 0, 0])


def test_the_most_confident_mistakes_come_first():
    found = errors_of(said([0, 0, 0, 1, 1], [1, 0, 1, 0, 0], [0.6, 0.99, 0.9, 0.7, 0.49]), ("a", "b"))
    assert found.mistakes == [2, 3, 0]


def test_mistakes_of_which_the_model_was_unsure_are_not_confident_ones():
    record = replace(
        read_record(made_run("unsure")), class_names=("a", "b"), predictions=said([0, 1], [1, 1], [0.4, 1])
    )
    errors = errors_of(record.predictions, ("a", "b"))
    page = to_html(record, errors, {}, {})
    assert errors.mistakes == [0]
    assert "at least 50&nbsp;% sure of none of them" in page
    assert "confident mistakes" not in page


def test_metrics_come_first_and_settings_have_the_names_that_are_typed():
    overrides = ["data=digits", "optimizer.lr=0.1", "data.subset_seed=0"]
    run = made_run("named", overrides=overrides, choices={"data": "digits", "optimizer": "adamw", "freezing": "none"})
    text = write_report(findings_of(run), lambda predictions, indices: ({}, {})).read_text()
    assert text.index("<dt>test/acc</dt>") < text.index("<dt>data</dt>")
    assert "<dd>digits, subset_seed=0</dd>" in text
    assert "<dd>adamw, lr=0.1</dd>" in text
    assert "<dd>simple_cnn, image_size=16</dd>" in text  # not known from Hydra
    assert "Source" not in text
    assert re.search(r"<dd>0\.\d{4} \(95 % interval 0\.\d{4} to 0\.\d{4}, 400 images\)", text)


@pytest.mark.parametrize(("num_val", "is_few"), [(24, True), (4_000, False)])
def test_what_is_read_from_curves_says_on_how_many_images_it_rests(num_val, is_few):
    epochs = [
        {"epoch": each, "val/loss": loss, "train/loss": 1 - each / 4} for each, loss in enumerate((1.0, 0.5, 0.9))
    ]
    record = replace(read_record(made_run("curves")), epochs=epochs)
    record = replace(record, results={"num_images": {"val": num_val}, "class_counts": {"val": [num_val, 10]}})
    sentence = conclusions(record, None)[1]
    assert f"the validation loss on {num_val:,} images rose" in sentence
    assert ("With so few images that may be chance" in sentence) == is_few


def test_few_classes_have_a_large_matrix():
    sides = {}
    for num in (2, 10, 20, 40):
        names = tuple(f"class {place}" for place in range(num))
        record = replace(read_record(made_run(f"of{num}")), class_names=names, predictions=said([0, 1], [0, 0]))
        page = to_html(record, errors_of(record.predictions, names), {}, {})
        sides[num] = int(re.search(r'<rect class="right"[^>]*width="(\d+)"', page).group(1))
        assert page.count('class="cell"') == (2 if num <= 20 else 0)
    assert sides == {2: 96, 10: 48, 20: 34, 40: 10}


def test_a_thousand_classes_and_a_hundred_thousand_images_stay_bounded():
    random = np.random.default_rng(0)
    targets = random.integers(0, 1000, 100_000)
    predicted = random.integers(0, 1000, 100_000)
    found = errors_of(said(targets, predicted), tuple("long" * 40 + str(each) for each in range(1000)))
    assert len(found.shown) == 60
    assert len(found.cells) <= 60**2
    record = replace(read_record(made_run("many")), class_names=tuple(row.name for row in found.classes))
    record = replace(record, predictions=said(targets, predicted))
    assert len(to_html(record, found, {}, {})) < 3_000_000


def test_the_verdict_says_what_chance_can_explain():
    record = replace(read_record(made_run("chance")), class_names=("a", "b"), predictions=said([0, 1] * 8, [0] * 16))
    first, *_ = conclusions(record, errors_of(record.predictions, ("a", "b")))
    assert "50.0 % of 16 test images" in first
    assert "95 % interval 28.0 to 72.0 %" in first
    assert "as well as chance" in first


@pytest.mark.parametrize(
    ("validation", "state", "word"),
    [
        ((1.0, 0.5, 0.9), "finished", "rose from 0.5 after 2 epochs to 0.9 after the last one"),
        ((1.0, 0.8, 0.5), "finished", "still learning"),
        ((1.0, 0.8, 0.5), "stopped", ""),
        ((1.0, 0.5, 0.5), "finished", ""),
    ],
)
def test_curves_are_read(validation, state, word):
    epochs = [{"epoch": each, "val/loss": loss, "train/loss": 1 - each / 4} for each, loss in enumerate(validation)]
    sentences = conclusions(replace(read_record(made_run("curves", state=state)), epochs=epochs), None)[1:]
    assert bool(sentences) == bool(word)
    assert all(word in sentence for sentence in sentences)


def test_what_trained_when_is_read_off_the_learning_rates():
    epochs = [{"epoch": each, "lr/stem": 0.0 if each < 2 else 0.1, "lr/head": 0.2} for each in range(4)]
    stages = stages_of(epochs, [])
    assert stages == ["stem", "head"]
    found = training_map(epochs, stages)
    assert [(each.first, each.last, each.trains) for each in found["stem"]] == [(0, 1, False), (2, 3, True)]
    assert phase_starts(epochs, stages) == [2]
    chart = charts(epochs, stages)[0]
    assert (chart.title, chart.unit) == ("Learning rate", "learning rate")
    assert [epoch for _, epoch in chart.phases] == [2]


def test_long_runs_have_few_points_and_one_epoch_has_one():
    many = [{"epoch": each, "train/loss": 1 / (each + 1)} for each in range(5000)]
    (chart,) = charts(many, [])
    assert len(chart.curves[0].points) <= 402
    assert len(charts(many[:1], [])[0].curves[0].points) == 1
    assert charts([], []) == []


def test_names_are_text_whatever_they_hold():
    evil = "<script>alert(1)</script>"
    record = read_record(made_run(f"x{'<b>'}y"))
    record = replace(record, class_names=(evil, "b|c"), predictions=said([0, 1], [1, 1]), skipped={evil: evil})
    seen = {0: ShownImage(np.zeros((4, 4, 3), np.uint8), evil, np.ones((4, 4), np.float32))}
    errors = errors_of(record.predictions, record.class_names)
    page = to_html(record, errors, seen, {"gallery": evil})
    assert evil not in page
    assert page.count("<script>") == 1
    assert "alert(1)" in page
    assert r"b\|c" in to_markdown(record, errors)
    assert "<script>" not in to_markdown(record, errors).replace(r"\<script", "")


def test_a_page_needs_nothing_beside_it():
    run = made_run("whole")
    found = findings_of(run)
    page = write_report(found, lambda predictions, indices: ({}, {}))
    text = page.read_text()
    assert not re.search(r"(src|href)=.(?!data:|#)", text)
    assert f"{100 * found.errors.accuracy:.1f} %" in text
    assert "regraft reproduce run=" in text
    assert (run.path / "report.md").is_file()


def test_a_head_in_closed_form_is_described_and_has_no_curves():
    run = made_run("fitted")
    pick = {"solver": "ridge", "stages": ["stem", "layer1", "layer2"], "alpha": 0.1, "log_loss": 0.5, "share": 0.6}
    last = pick | {"solver": "discriminant", "stages": ["layer2"], "share": 0.4}
    fitted = {"closed_form": [pick, last], "validation": "leave-one-out", "cross_validation": {"val/acc": 0.75}}
    run.write_results(run.results | fitted)
    text = write_report(findings_of(run), lambda predictions, indices: ({}, {})).read_text()
    assert "60 % ridge on 3 stages from stem to layer2, alpha 0.1; 40 % discriminant on layer2, alpha 0.1" in text
    assert "leave-one-out, val/acc 0.7500" in text
    assert "Learning curves" not in text


@pytest.mark.parametrize("state", ["stopped", "failed", "running"])
def test_a_run_that_has_not_ended_has_its_curves(state):
    found = findings_of(made_run("half", state=state))
    page = write_report(found, lambda predictions, indices: ({}, {}))
    assert found.errors is None
    assert "hasn&#39;t ended" in page.read_text()
    assert "<svg" in page.read_text()


def test_damaged_files_are_left_out():
    run = made_run("damaged")
    for name in ("config.yaml", "results.json", "metrics.csv", "predictions.safetensors", "provenance.json"):
        (run.path / name).write_text("{")
    page = write_report(findings_of(run), lambda predictions, indices: ({}, {}))
    assert page.is_file()


def test_results_that_cannot_be_shown_are_left_out():
    run = made_run("odd")
    odd = {"metrics": {"test/acc": "high", "test/loss": 0.25}, "seconds": "long", "class_counts": [1], "stages": 3}
    odd |= {"closed_form": [{"share": 1}], "num_images": {"train": math.inf, "val": math.nan}}
    run.write_results(run.results | odd)
    write(run.path, replace(said([0, 1], [0, 1]), split="holdout"))
    found = findings_of(run)
    assert found.record.results["metrics"] == {"test/loss": 0.25}
    assert found.errors is None
    assert "0.25" in write_report(found, lambda predictions, indices: ({}, {})).read_text()


@pytest.mark.parametrize("is_same", [True, False])
def test_the_temperature_is_applied_to_its_own_weights_only(is_same):
    run = made_run("warm")
    run.best_ckpt.parent.mkdir()
    run.best_ckpt.write_bytes(b"weights")
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)
    write(run.path, replace(said([0, 0], [0, 1], [0.9, 0.8]), probabilities=probabilities))
    digest = hashlib.sha256(b"weights" if is_same else b"others").hexdigest()
    (run.path / "calibration.json").write_text(json.dumps({"temperature": 2.0, "sha256": digest}))
    found = findings_of(run)
    expected = [0.75, 2 / 3] if is_same else [0.9, 0.8]
    assert found.record.predictions.confidences.tolist() == pytest.approx(expected)
    page = write_report(found, lambda predictions, indices: ({}, {})).read_text()
    assert ("fitted temperature, 2." in page) == is_same
    assert ("fitted for other weights" in page) != is_same


def test_epochs_are_never_on_a_logarithmic_axis():
    (chart,) = charts([{"epoch": each, "train/loss": 1.0} for each in range(1, 101)], [])
    places = [x for x, _ in chart.curves[0].points]
    assert np.diff(places) == pytest.approx(np.diff(places).mean())


def test_validation_is_said_to_be_kind():
    run = made_run("val")
    write(run.path, replace(said([0, 1], [0, 1]), split="val"))
    record = read_record(run)
    assert (
        "checkpoint was chosen on these images"
        in conclusions(record, errors_of(record.predictions, record.class_names))[0]
    )


def test_a_heatmap_is_dark_where_shares_are_high():
    image = heatmap(np.array([[1.0, 0.0], [0.0, 0.5]]))
    assert image.shape == (480, 480, 3)
    assert image[0, 0].sum() < image[-1, -1].sum() < image[0, -1].sum() == 765
