"""Find the best classifier within a time: choose backbone and input size, then train and test it."""

import contextlib
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regraft.cli.candidates import UNTESTED, choices, compose_command, of_training
from regraft.cli.command import Command
from regraft.cli.search_clock import SearchClock, require_limit
from regraft.cli.training_command import TrainingCommand, command_of, parse
from regraft.config.hydra_messages import MISTAKES
from regraft.config.quoting import key_of, quoted, value_of
from regraft.config.task_choice import explained_task
from regraft.core.errors import ConfigError, ConfigErrors, UnknownNameError
from regraft.core.startup import Preempted, quick_imports, start_clock
from regraft.core.text import say, warnings_shown_once
from regraft.core.time_limit import TimeOver, time_limit
from regraft.runs import provenance
from regraft.runs.folder import Run
from regraft.runs.searches import SearchCommand, resume_search

if TYPE_CHECKING:
    from regraft.core.console import Console, ProgressBar
    from regraft.training.auto.choice import Choice
    from regraft.training.auto.record import Record
    from regraft.training.auto.search import Search
    from regraft.training.auto.tried import Tried

_NOT_OF_RESULTS = (
    *("models", "sizes", "candidates", "time", "trials", "output_dir", "trainer", "features", "model", "trust"),
    "report",
)
_RUN_DIR = "hydra.run.dir"


def run(arguments: Sequence[str]) -> None:
    """Searches; see the command's help."""
    command = parse(arguments)
    if command.other_flags or command.is_sweep:
        raise UnknownNameError("auto", "flag", [*command.other_flags, "-m"][0], ["--config-dir"])
    _search(command)


def auto_once(overrides: Sequence[str], config_dir: str | None) -> Run:
    """Searches, and returns the run of the best candidate; see `regraft.auto`."""
    start_clock(0.0)
    return _search(command_of(overrides, config_dir))


def search_again(search: SearchCommand, folder: Path) -> Run:
    """Continues the search in a folder, where it was started, with a new limit of time; see `regraft resume`."""
    directory, current = Path(search.directory), Path.cwd()
    if not directory.is_dir():
        say(f"{directory}, where the search was started, is gone; paths are relative to {current} now.")
        directory = current
    elif directory != current:
        say(f"Continuing in {directory}, where the search was started.")
    with contextlib.chdir(directory):
        return _search(command_of(search.overrides, search.config_dir), folder)


def _search(command: TrainingCommand, continued: Path | None = None) -> Run:
    """Searches.

    Args:
        continued: the folder of the search that is continued.
    """
    if command.errors:
        raise ConfigErrors(command.errors)
    overrides, config_dir = command.with_task, command.config_dir
    config = compose_command("auto", overrides, config_dir)
    require_limit(config, overrides)
    if _RUN_DIR in map(key_of, overrides):
        fix = "Choose the folder of all searches with output_dir=PATH, or leave it out."
        raise ConfigError(_RUN_DIR, "a search has a folder of its own, and each of its runs has one in it", fix=fix)
    clock = SearchClock(math.inf if config["trials"] else config["time"])
    if clock.is_hopeless:
        raise clock.too_small()
    clock.share_done = 0.2  # while torch is imported
    with contextlib.ExitStack() as opened:
        opened.enter_context(warnings_shown_once())  # a run is made, or tried, several times of the same data
        try:
            with time_limit(clock.budget - clock.passed() - clock.closing):
                begun = _begun(command, config, clock, continued, opened)
                best = begun.run()
        except TimeOver:
            raise clock.too_small() from None
        return begun.shown(best, clock)


@dataclass
class _Begun:
    """A search whose folder is locked.

    Attributes:
        shared: overrides of the search that a training takes.
    """

    search: "Search"
    record: "Record"
    config: dict[str, Any]
    shared: Sequence[str]
    fingerprint: str
    nouns: str
    tell: Callable[[str], None]
    console: "Console"

    def run(self) -> "Tried | None":
        """Does what `Search.run` does; says if the data has changed meanwhile, and how to continue a stopped search."""
        try:
            return self.search.run()
        except (KeyboardInterrupt, Preempted):
            self.tell(f"Stopped. To continue the search: {resume_search(self.record.folder)}")
            raise
        except MISTAKES as error:
            if not _is_same(self.config, self.fingerprint):
                raise _changed(self.record.folder, self.nouns) from error
            raise

    def shown(self, best: "Tried | None", clock: SearchClock) -> Run:
        """Prints and writes what was found; returns the best run.

        Args:
            best: None for the run of an earlier search.
        """
        from regraft.report import auto_report

        search, record, budget = self.search, self.record, None if math.isinf(clock.budget) else clock.budget
        assert record.winner is not None, "a run has been trained"
        run = Run(record.folder / record.winner)
        if (why := record.why_earlier(self.nouns)) is not None:
            self.tell(why)
            best = None
        if best is None:
            record.write(search.tried, seconds=clock.passed(), time=budget)
            auto_report.show_line(self.console, clock.passed(), f"run: {run.path}")
            return run
        self.tell(f"{best.choice.name}: the run of the best candidate is ready")
        share = [f"data.fraction={search.fraction:g}"] if search.fraction < 1 else []
        words = list(best.tuned_with or [*self.shared, *best.choice.overrides, *share])
        record.again = words
        record.write(search.tried, seconds=clock.passed(), time=budget)
        auto_report.show(record, search.tried, best, words, clock.passed(), self.console)
        return run


def _begun(
    command: TrainingCommand,
    config: dict[str, Any],
    clock: SearchClock,
    continued: Path | None,
    opened: contextlib.ExitStack,
) -> _Begun:
    """Returns the search of a command; see `_search`.

    Args:
        opened: gets the lock of the search's folder.
    """
    overrides, config_dir = command.with_task, command.config_dir
    with quick_imports():
        from regraft.cli.tuning import Tuner
        from regraft.core.console import image_progress_bar
        from regraft.core.modalities import SPECS
        from regraft.data.from_config import build_datamodule
        from regraft.report import auto_report
        from regraft.report.console import wide_console
        from regraft.runs.state import locked
        from regraft.training.auto.candidates import Candidate
        from regraft.training.auto.record import Record
        from regraft.training.auto.search import Search
        from regraft.training.lightning import quiet_lightning
        from regraft.training.trainer import prepared_device

    quiet_lightning()
    device = prepared_device(config)
    clock.share_done = 0.4
    folder = _folder(config, overrides)
    if continued not in (None, folder):
        raise ConfigError(
            "run",
            f"{continued} holds a search with other options, as its configs have changed or it was renamed",
            fix="To search with the options of now, give them to regraft auto.",
        )
    data, shared = build_datamodule(config, None), of_training(overrides)
    spec = SPECS[data.kind]
    console = wide_console(auto_report.WIDTH)

    def tell(line: str) -> None:
        record.lines.append((clock.passed(), line))
        record.write(search.tried)
        auto_report.show_line(console, clock.passed(), line)

    def train(choice: "Choice", fraction: float, is_tested: bool) -> Run:
        share = [f"data.fraction={fraction:g}"] if fraction < 1 else []
        words = [*shared, *choice.overrides, *share]
        made = _trained(record, choice, fraction, words, config_dir, data.fingerprint, is_tested=is_tested)
        record.write(search.tried)
        record.remove_replaced()
        return made

    def progress(title: str) -> "ProgressBar":
        return image_progress_bar(is_shown=console.is_terminal, title=title, nouns=spec.nouns)

    def make(choice: "Choice") -> Candidate:
        made = Candidate(choice.composed(), data, device, progress(choice.name))
        clock.share_done = 0.6
        return made

    folder.mkdir(parents=True, exist_ok=True)
    opened.enter_context(locked(folder))
    record = Record.of(folder, SearchCommand(list(overrides), config_dir, str(Path.cwd())))
    record.write([])
    search = Search(
        choices(config, overrides, config_dir, spec)[: config["trials"]],
        clock,
        make=make,
        train=train,
        tell=tell,
        subset_seed=config["data"]["subset_seed"],
        has_fraction=config["data"]["fraction"] != 1 or config["data"]["shots"] is not None,
        has_run=record.has_run(data.fingerprint),
        tuning=None
        if config["trials"]
        else Tuner(record, shared, config_dir, data, tell, lambda: clock.budget - clock.passed()),
    )
    if command.task is not None:
        auto_report.show_line(console, clock.passed(), explained_task(*command.task))
    auto_report.show_line(console, clock.passed(), f"folder: {folder}")
    return _Begun(search, record, config, shared, data.fingerprint, spec.nouns, tell, console)


def _folder(config: dict[str, Any], overrides: Sequence[str]) -> Path:
    """Returns the folder of all searches with the same data and options, however long they may take."""
    content = {key: value for key, value in config.items() if key not in _NOT_OF_RESULTS}
    digest = hashlib.blake2b(json.dumps(content, sort_keys=True, default=str).encode(), digest_size=4).hexdigest()
    data = Path(value_of("data", overrides) or "digits").name
    return Path(config["output_dir"]).expanduser().resolve() / f"auto-{data}-{digest}"


def _trained(
    record: "Record",
    choice: "Choice",
    fraction: float,
    words: Sequence[str],
    config_dir: str | None,
    fingerprint: str,
    *,
    is_tested: bool,
) -> Run:
    """Returns a run of a candidate, trained now unless an earlier search did."""
    from regraft.cli.commands.train import train_once

    found = record.take_again(choice.name, fraction, fingerprint, is_tested=is_tested)
    if found is not None:
        return found
    folder = record.new_folder(choice.name)
    own = [f"hydra.run.dir={quoted(folder)}", "trainer.enable_progress_bar=false", "fitting=closed_form"]
    try:
        made = train_once([*words, *own, *([] if is_tested else UNTESTED)], config_dir, is_printed=False)
    except TimeOver:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if provenance.sessions(made)[-1]["data"]["fingerprint"] != fingerprint:
        raise _changed(record.folder, choice.spec.nouns)
    loss = made.results["cross_validation"].get("val/loss")
    record.add(made, choice.name, fraction, fingerprint, is_tested=is_tested, loss=loss)
    return made


def _is_same(config: dict[str, Any], fingerprint: str) -> bool:
    """Whether the data is still that of a fingerprint."""
    from regraft.data.from_config import build_datamodule

    try:
        return bool(build_datamodule(config, None).fingerprint == fingerprint)
    except MISTAKES:
        return False


def _changed(folder: Path, nouns: str) -> ConfigError:
    return ConfigError(
        "data",
        f"the {nouns} have changed since the search began",
        fix=f"To search again, without computing again what is the same: {resume_search(folder)}",
    )


COMMAND = Command(
    name="auto",
    run=run,
    usage="regraft auto [key=value | group=choice]... [time=SECONDS | trials=N] [models=[...]] [sizes=[...]]",
    details="""
The other keys are those of a training (regraft train --help). A second call with the same keys begins where the first
ended: features and runs are kept.""",
    config_name="auto",
)
