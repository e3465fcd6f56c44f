"""The loggers of `conf/logger`, and what they are given beside the metrics that Lightning logs."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from regraft.config.instantiate import Config
from regraft.config.nested import leaves
from regraft.config.quoting import key_of
from regraft.core.atomic import read_json, write_json
from regraft.runs.folder import Run
from regraft.runs.metrics_csv import rows_of
from regraft.sweeps.manifest import is_experiment_key
from regraft.sweeps.objectives import kept_row

log = logging.getLogger(__name__)

_IDS = "logger_ids.json"
"""Ids of the runs that trackers have for a run's folder, which a resumed run continues."""
_FILE_URIS = ("sqlite:///", "file://", "file:")
_CHOSEN = (
    *("data", "model", "augment", "head", "freezing", "fitting", "loss", "optimizer", "scheduler", "experiment"),
    *("optimizer.lr", "optimizer.weight_decay", "data.batch_size", "trainer.max_epochs", "seed"),
)


class EpochRows(CSVLogger):
    """metrics.csv with one row an epoch: what validation logs, and then what training logs of the same step.

    A row waits for the figures of training before it is written; `finalize` writes it as it is.
    """

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:  # type: ignore[override]
        """Adds metrics to the row of their epoch and step."""
        rows = self.experiment.metrics
        if rows and (rows[-1].get("epoch"), rows[-1]["step"]) == (metrics.get("epoch"), step):
            rows[-1].update(metrics)
        else:
            super().log_metrics(dict(metrics), step)

    @rank_zero_only
    def save(self) -> None:
        """Writes the rows that are complete."""
        rows = self.experiment.metrics
        waiting = [rows.pop()] if rows and not any(name.startswith("train/") for name in rows[-1]) else []
        super().save()
        self.experiment.metrics.extend(waiting)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Writes all rows."""
        super().save()


class MLflow(Logger):
    """Lightning's `MLFlowLogger`, which opens its database only when something is logged.

    Args:
        save_dir: the run's folder, whose name is the default of `run_name`.
        artifact_location: of a new experiment; None for the folder `mlartifacts` beside a database in a file, and for
            what a server decides.
    """

    def __init__(
        self,
        *,
        save_dir: str,
        experiment_name: str,
        tracking_uri: str,
        run_name: str | None = None,
        artifact_location: str | None = None,
        tags: dict[str, Any] | None = None,
        run_id: str | None = None,
        prefix: str = "",
    ) -> None:
        super().__init__()
        if find_spec("mlflow") is None:
            raise ModuleNotFoundError("mlflow is not installed", name="mlflow")
        self._folder = Path(save_dir)
        known = read_json(self._folder / _IDS).get("mlflow", {})
        run_id = run_id or (known.get("run_id") if known.get("tracking_uri") == tracking_uri else None)
        self._tracking_uri = tracking_uri
        self._options: dict[str, Any] = {
            **{"experiment_name": experiment_name, "tracking_uri": tracking_uri, "run_id": run_id, "prefix": prefix},
            **{"run_name": run_name or _name_of(self._folder), "tags": tags},
            "artifact_location": artifact_location or _artifacts_beside(tracking_uri),
        }

    @cached_property
    def _logger(self) -> MLFlowLogger:
        logger = MLFlowLogger(**self._options)
        known = {"run_id": logger.run_id, "tracking_uri": self._tracking_uri}
        write_json(self._folder / _IDS, read_json(self._folder / _IDS) | {"mlflow": known})
        return logger

    @property
    def experiment(self) -> Any:
        """MLflow's client."""
        return self._logger.experiment

    @property
    def run_id(self) -> str | None:
        """The id of MLflow's run."""
        return self._logger.run_id

    @property
    def name(self) -> str | None:
        """The id of MLflow's experiment."""
        return self._logger.name

    @property
    def version(self) -> str | None:
        """The id of MLflow's run."""
        return self.run_id

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs metrics."""
        self._logger.log_metrics(metrics, step)

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Logs parameters."""
        self._logger.log_hyperparams(params)

    def log_new_parameters(self, params: Mapping[str, Any]) -> dict[str, str]:
        """Logs parameters, which MLflow lets nobody change; returns those that a resumed run has changed."""
        known = self.experiment.get_run(self.run_id).data.params
        self.log_hyperparams({key: value for key, value in params.items() if key not in known})
        # MLflow has the first characters of a long value.
        changed = {key: str(value) for key, value in params.items() if key in known}
        return {key: value for key, value in changed.items() if not value.startswith(known[key])}

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Ends MLflow's run, if it began."""
        if "_logger" in vars(self):
            self._logger.finalize(status)


class WandB(WandbLogger):
    """Lightning's `WandbLogger`, whose run has the name of the run's folder, and is continued when that is resumed."""

    def __init__(
        self,
        *,
        save_dir: str,
        project: str,
        offline: bool = False,
        name: str | None = None,
        id: str | None = None,
        log_model: bool = False,
        **options: Any,
    ) -> None:
        folder = Path(save_dir)
        known = read_json(folder / _IDS).get("wandb")
        # Of Lightning's own callbacks for checkpoints there are none; see `report.run.finish.log_files`.
        names: dict[str, Any] = {"project": project, "name": name or _name_of(folder), "id": id or known}
        super().__init__(save_dir=save_dir, offline=offline, **names, **options)
        self.logs_model = log_model
        self._folder = folder

    def keep_id(self) -> None:
        """Writes the id of the run, which begins with that, into the run's folder."""
        write_json(self._folder / _IDS, read_json(self._folder / _IDS) | {"wandb": self.experiment.id})


def _name_of(folder: Path) -> str:
    """Returns a run's name: that of its folder, after that of its sweep or experiment."""
    return f"{folder.parent.name}/{folder.name}"


def _artifacts_beside(tracking_uri: str) -> str | None:
    """Returns the folder for artifacts beside a database in a file, as a URI; None for a server's."""
    for scheme in _FILE_URIS:
        if tracking_uri.startswith(scheme):
            return (Path(tracking_uri.removeprefix(scheme)).absolute().parent / "mlartifacts").as_uri()
    return None


def begin(loggers: Sequence[Any], config: Config, run: Run, session: Mapping[str, Any]) -> None:
    """Gives a run's parameters, folder and commit to the loggers that show runs while they train."""
    git = session.get("git", {})
    tags = {"run_folder": str(run.path), **({"commit": git["commit"]} if "commit" in git else {})}
    for logger in loggers:
        if isinstance(logger, WandB):
            logger.keep_id()
        if isinstance(logger, MLflow):
            own = tags | logger.log_new_parameters(parameters(config, run))
            if "commit" in tags:  # MLflow would give that of the folder that the program is installed in
                own["mlflow.source.git.commit"] = tags["commit"]
            for name, value in own.items():
                logger.experiment.set_tag(logger.run_id, name, value)
        elif not isinstance(logger, CSVLogger | TensorBoardLogger):
            logger.log_hyperparams(parameters(config, run) | tags)


def parameters(config: Config, run: Run) -> dict[str, Any]:
    """Returns a run's parameters by their keys, and the choice in each group by the group's name."""
    groups = {group: choice for group, choice in run.choices.items() if "/" not in group and choice != "None"}
    found = {key: value for key, value in leaves(config).items() if not key.endswith("_target_")}
    return found | {group: choice for group, choice in groups.items() if group not in found}


def chosen_parameters(config: Config, run: Run) -> dict[str, Any]:
    """Returns the choices of the main groups and the keys of the command, among which are those that a sweep varies."""
    found = parameters(config, run)
    typed = {key for key in map(key_of, map(str, run.overrides)) if key is not None and is_experiment_key(key)}
    return {key: value for key, value in found.items() if key in _CHOSEN or key in typed}


def log_results(loggers: Sequence[Any], config: Config, run: Run, results: Mapping[str, Any]) -> None:
    """Logs the metrics of the final test once; to TensorBoard with the parameters and the kept weights' validation.

    metrics.csv has the epochs alone, as the test is of the weights that were kept, whatever their epoch. A logger that
    fails is only warned of, as the results are in the run's folder.
    """
    tested = {name: value for name, value in results["metrics"].items() if name.startswith("test/")}
    for logger in loggers:
        with _warned_of(logger, "the results of the test"):
            if isinstance(logger, TensorBoardLogger):
                rows = [row for row in rows_of(run) if any(name.startswith("val/") for name in row)]
                kept = kept_row(rows, config, results) if rows else {}
                validated = {f"hparam/{name}": value for name, value in kept.items() if name.startswith("val/")}
                logger.log_hyperparams(chosen_parameters(config, run), tested | validated, results["num_steps"])
            elif tested and not isinstance(logger, CSVLogger):
                logger.log_metrics(tested, results["num_steps"])


def close(loggers: Sequence[Any], status: str) -> None:
    """Ends what loggers show of a run, with `success` or `failed`; one that can't is only warned of."""
    for logger in loggers:
        with _warned_of(logger, "how the run ended"):
            logger.finalize(status)
            if isinstance(logger, WandbLogger):
                # Otherwise the next run of the process, such as a sweep's next job, would log into the same one.
                logger.experiment.finish(exit_code=0 if status == "success" else 1)


@contextmanager
def _warned_of(logger: Any, what: str) -> Iterator[None]:
    """Turns an error of a logger, such as that of a server that is gone, into a warning."""
    try:
        yield
    except Exception as error:
        name, reason = type(logger).__name__, " ".join(str(error).split()) or type(error).__name__
        log.warning("%s doesn't show %s: %s", name, what, reason)
