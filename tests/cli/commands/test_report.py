import signal
from pathlib import Path

import pytest
import torch

import regraft
from helpers.made_runs import made_run
from helpers.small import SMALL
from regraft.cli.commands.report import run as report
from regraft.cli.main import main
from regraft.core.startup import Preempted
from regraft.report.run.finish import RunDisplay
from regraft.report.run.mistakes import thorough
from regraft.runs.predictions import read
from regraft.training.module import TransferModule


def test_a_run_writes_its_report_and_where_its_time_went(small_run):
    page = (small_run.path / "report.html").read_text()
    assert "data:image/webp" in page
    assert "running" not in page
    assert (small_run.path / "report.md").is_file()
    results = small_run.results
    assert 0 < sum(results["seconds_of"].values()) <= results["seconds"]
    assert sum(results["class_counts"]["test"]) == 359
    assert results["stages"][-1] == "head"


def test_anew_with_what_the_model_looked_at(small_run, capsys):
    pytest.importorskip("captum")
    (small_run.path / "report.html").unlink()
    report([f"run={small_run.path}"])
    assert "where the model looked" in (small_run.path / "report.html").read_text()
    assert str(small_run.path / "report.html") in capsys.readouterr().out


def test_the_places_that_speak_for_a_class_are_found(small_run):
    pytest.importorskip("captum")
    from regraft.deployment.attribution import attention
    from regraft.deployment.load import trained_model

    model = trained_model(small_run.path)
    size = model.input_spec.image_size
    heat = attention(model, torch.randint(0, 255, (model.input_spec.num_channels, size, size), dtype=torch.uint8), 3)
    assert heat.shape == (size, size)
    assert heat.min() >= 0
    assert heat.max() in (0, 1)


def test_off_and_failing_reports_leave_the_run_whole(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr("regraft.report.run.writing.read_record", lambda run, **more: 1 / 0)
    run = regraft.train([*SMALL, "trainer.max_epochs=1"])
    assert run.is_finished
    assert not (run.path / "report.html").exists()
    assert "no report.html: ZeroDivisionError" in caplog.text


def test_a_board_that_fails_leaves_the_report(monkeypatch, caplog, small_run):
    monkeypatch.setattr("regraft.report.run.finish.trackers_of", lambda loggers: loggers)
    monkeypatch.setattr("regraft.report.run.finish.log_confusion", lambda loggers, found: 1 / 0)
    monkeypatch.setattr("regraft.report.run.finish.quick", lambda data: lambda predictions, indices: ({}, {}))
    (small_run.path / "report.html").unlink()
    RunDisplay().show_end(small_run, small_run.results, None, ["board"], with_report=True)
    assert "something missing in what loggers show: ZeroDivisionError" in caplog.text
    assert (small_run.path / "report.html").is_file()


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [("is_here", False, "would have to be downloaded"), ("fingerprint", "0", "has changed")],
)
def test_other_data_and_data_to_download_show_no_pictures(monkeypatch, small_run, name, value, why):
    monkeypatch.setattr(f"regraft.data.datamodule.DataModule.{name}", value)
    seen, notes = thorough(small_run, None, [])(read(small_run.path), [0])
    assert not seen
    assert why in notes["gallery"]


def test_a_run_without_a_checkpoint_has_its_report(capsys):
    run = made_run("stopped", state="stopped")
    report(["run=stopped"])
    assert (run.path / "report.html").is_file()


@pytest.mark.parametrize(
    ("error", "epoch", "said"),
    [
        (KeyboardInterrupt, 1, "Ctrl-C"),
        (OSError("no room"), 1, "failed: no room"),
        (Preempted(signal.SIGTERM), 1, "stopped at step"),
        (KeyboardInterrupt, 0, None),
    ],
)
def test_a_run_that_ends_early_has_a_report_of_its_epochs(monkeypatch, error, epoch, said):
    start = TransferModule.on_train_epoch_start

    def ending(self):
        start(self)
        if self.current_epoch == epoch:
            raise error

    monkeypatch.setattr(TransferModule, "on_train_epoch_start", ending)
    with pytest.raises((KeyboardInterrupt, OSError, Preempted)):
        regraft.train([*SMALL, "hydra.run.dir=early"])
    page = Path("early", "report.html")
    assert page.exists() == (said is not None)
    assert said is None or said in page.read_text()


def test_mistakes_in_the_command_are_said(capsys):
    with pytest.raises(ValueError, match=r"report: unknown key 'rum'"):
        report(["rum=last"])
    with pytest.raises(SystemExit):
        main(["report", "run=nothing"])
    assert "run" in capsys.readouterr().err


def test_tensorboard_has_one_line_a_run_and_the_confusion_matrix():
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    options = ["trainer.max_epochs=1", "callbacks.loss_every_n_steps=2", "optimizer.lr=0.003", "report=off"]
    run = regraft.train([*SMALL, "logger=default", *options])
    assert not (run.path / "report.html").exists()
    assert len(list((run.path / "tensorboard").glob("events.*"))) == 1
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    assert events.Tags()["images"] == ["test/confusion"]
    plugin = {
        tag: HParamsPluginData.FromString(summary.plugin_data.content)
        for tag, summary in events.summary_metadata.items()
        if tag.startswith("_hparams_/")
    }
    assert [tag for tag in plugin if tag.startswith("_hparams_/session_start")] == ["_hparams_/session_start_info"]
    assert [event.step for event in events.Scalars("test/acc")] == [run.results["num_steps"]]
    assert [event.step for event in events.Scalars("train/loss_step")] == [1, 3]
    assert len(events.Scalars("train/loss")) == 1
    assert events.Scalars("lr/head")
    parameters = plugin["_hparams_/session_start_info"].session_start_info.hparams
    assert parameters["data"].string_value == "digits"
    assert parameters["optimizer.lr"].number_value == 0.003
    assert not [name for name in parameters if "_target_" in name]
    metrics = {each.name.tag for each in plugin["_hparams_/experiment"].experiment.metric_infos}
    assert {"test/acc", "hparam/val/acc", "hparam/val/loss"} <= metrics
    assert events.Scalars("hparam/val/acc")[0].value == events.Scalars("val/acc")[0].value
