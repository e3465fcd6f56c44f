import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers.logger import DummyLogger

import regraft
from helpers.command_line import run_main
from helpers.small import SMALL
from regraft.report.run.finish import log_files
from regraft.training.callbacks.loggers import KeepLoggersOpen, StepLoss
from regraft.training.loggers import EpochRows, MLflow, _artifacts_beside, chosen_parameters, close, parameters


class Failing(pl.LightningModule):
    """A module whose training fails."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def train_dataloader(self):
        return [torch.zeros(1, 1)]

    def training_step(self, batch, index):
        raise ValueError("the cause")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def rows_of(folder):
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


def test_validation_and_training_of_an_epoch_are_one_row(tmp_path):
    logger = EpochRows(tmp_path, name="", version="")
    for epoch, step in ((0, 6), (1, 13)):
        logger.log_metrics({"val/acc": 0.5, "epoch": epoch}, step)
        logger.save()
        logger.log_metrics({"train/loss": 0.25, "epoch": epoch}, step)
        logger.save()
        assert len(rows_of(tmp_path)) == epoch + 1
    assert [row["epoch"] for row in rows_of(tmp_path)] == ["0", "1"]
    assert rows_of(tmp_path)[1] == {"epoch": "1", "step": "13", "val/acc": "0.5", "train/loss": "0.25"}


def test_a_validation_within_an_epoch_has_a_row_and_what_never_ends_is_written_in_the_end(tmp_path):
    logger = EpochRows(tmp_path, name="", version="")
    for step in (3, 6):
        logger.log_metrics({"val/acc": 0.5, "epoch": 0}, step)
        logger.save()
    assert [row["step"] for row in rows_of(tmp_path)] == ["3"]
    logger.finalize("failed")
    assert [row["step"] for row in rows_of(tmp_path)] == ["3", "6"]


def test_a_run_has_a_row_an_epoch_of_training_and_validation_alone(small_run):
    rows = rows_of(small_run.path)
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert all(row["train/loss"] and row["val/acc"] for row in rows)
    assert not [name for name in rows[0] if name.startswith("test/")]


def test_parameters_have_the_names_that_are_typed(small_run):
    found = parameters(small_run.config, small_run)
    assert (found["data"], found["model"], found["optimizer"]) == ("digits", "simple_cnn", "adamw")
    assert found["model.image_size"] == 8
    assert not [key for key in found if "_target_" in key]
    chosen = chosen_parameters(small_run.config, small_run)
    assert {"data", "model", "freezing", "optimizer.lr", "seed", "data.fraction", "trainer.max_epochs"} <= chosen.keys()
    assert not {"output_dir", "data.cache", "trainer.precision"} & chosen.keys()


def test_artifacts_are_kept_beside_a_database_in_a_file_and_where_a_server_says():
    assert _artifacts_beside("sqlite:///outputs/mlflow.db") == (Path.cwd() / "outputs" / "mlartifacts").as_uri()
    assert _artifacts_beside("file:/tmp/runs") == "file:///tmp/mlartifacts"
    assert _artifacts_beside("http://localhost:5000") is None


def test_mlflow_gets_the_files_of_a_run(small_run):
    given = []
    logger = SimpleNamespace(run_id="1", experiment=SimpleNamespace(log_artifact=lambda *given_: given.append(given_)))
    log_files(logger, small_run)
    names = {Path(path).name: folder for _, path, *folder in given}
    assert names["best.ckpt"] == ["checkpoints"]
    assert {"report.html", "predictions.safetensors"} <= names.keys()


def test_a_wrong_number_of_steps_is_refused():
    with pytest.raises(ValueError, match=r"callbacks\.loss_every_n_steps: got 0; allowed: 1 or more steps, or null"):
        StepLoss(0)


def test_steps_of_accumulated_gradients_are_logged_as_one():
    logged = []
    logger = SimpleNamespace(log_metrics=lambda metrics, step: logged.append((metrics["train/loss_step"], step)))
    trainer = SimpleNamespace(loggers=[logger], accumulate_grad_batches=2, is_last_batch=False, global_step=0)
    callback = StepLoss(1)
    for batch, loss in enumerate((0.5, 0.25, 0.125, 0.125)):
        trainer.global_step = (batch + 1) // 2
        callback.on_train_batch_end(trainer, None, {"loss": loss}, {}, batch)
    assert logged == [(0.75, 0), (0.25, 1)]
    trainer.global_step, trainer.accumulate_grad_batches = 3, 1
    callback.on_train_batch_end(trainer, None, None, {}, 4)  # a batch that was skipped
    assert len(logged) == 2


class Broken(DummyLogger):
    """A logger whose server is gone when the run ends."""

    def finalize(self, status):
        raise ConnectionError("the server is gone")


def test_a_logger_that_cannot_end_hides_no_error(caplog):
    trainer = pl.Trainer(
        logger=Broken(), callbacks=KeepLoggersOpen(), max_epochs=1, accelerator="cpu", log_every_n_steps=1,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with pytest.raises(ValueError, match="the cause"):
        trainer.fit(Failing())
    ended = []
    close([Broken(), SimpleNamespace(finalize=ended.append)], "failed")
    assert ended == ["failed"]
    assert "Broken doesn't show how the run ended: the server is gone" in caplog.text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of MLflow's own packages
def test_mlflow_shows_a_run_and_continues_it(capsys):
    mlflow = pytest.importorskip("mlflow")
    overrides = [*SMALL, "logger=mlflow", "hydra.run.dir=outputs/exp/one"]
    assert run_main(["check", *overrides], capsys)[0] == 0
    assert not Path("outputs").exists()
    run = regraft.train(overrides)
    assert run_main(["resume", "run=outputs/exp/one", "trainer.max_epochs=3"], capsys)[0] == 0
    client = mlflow.MlflowClient("sqlite:///outputs/mlflow.db")
    experiment = client.get_experiment_by_name("regraft")
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == ("exp/one", "FINISHED")
    assert found.data.tags["run_folder"] == str(run.path)
    assert found.data.params["data"] == "digits"
    assert not [key for key in found.data.params if "_target_" in key]
    assert found.data.metrics["test/acc"] == pytest.approx(run.metrics["test/acc"])
    artifacts = [each.path for each in client.list_artifacts(found.info.run_id)]
    assert {"report.html", "predictions.safetensors", "checkpoints", "test"} <= set(artifacts)
    assert found.info.artifact_uri.startswith((Path("outputs") / "mlartifacts").resolve().as_uri())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_each_run_of_a_process_has_a_run_of_wandb():
    pytest.importorskip("wandb")
    ids = set()
    for name in ("one", "two"):
        overrides = [*SMALL, "trainer.max_epochs=1", "logger=wandb", "logger.wandb.offline=true"]
        run = regraft.train([*overrides, f"hydra.run.dir=outputs/exp/{name}"])
        ids.add(json.loads((run.path / "logger_ids.json").read_text())["wandb"])
    assert len(ids) == 2


def test_mlflow_opens_nothing_before_something_is_logged(monkeypatch, tmp_path):
    monkeypatch.setattr("regraft.training.loggers.find_spec", lambda name: object())
    monkeypatch.setattr("regraft.training.loggers.MLFlowLogger", lambda **options: pytest.fail("it was opened"))
    logger = MLflow(save_dir=str(tmp_path), experiment_name="x", tracking_uri="sqlite:///nowhere/mlflow.db")
    logger.finalize("success")
    assert not list(tmp_path.iterdir())
