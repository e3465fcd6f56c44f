"""The command line: verbs, each of which is a Hydra app of its own.

Nothing heavy is imported before a config is composed, so that help, completion and typing mistakes answer at once.
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from regraft import __version__
from regraft.cli.completion import complete
from regraft.cli.help import USAGES, VERBS, help_text, list_choices, usage_of
from regraft.cli.hydra_app import run_app
from regraft.config.compose import explain, is_debugging, unknown
from regraft.config.errors import FaultsError, sentences_of
from regraft.config.quoting import readable
from regraft.core.startup import exit_when_preempted, limit_spinning
from regraft.runs.arguments import in_its_folder, to_resume, with_appended_sections, with_checkpoint

_NO_HOME = "Could not determine home directory"  # pathlib's words


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one verb and exits: 0 when it worked, 1 for a mistake that the user can mend, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Hydra would print its own, shortened traceback and exit; with this its errors reach the sentence below.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    limit_spinning()
    exit_when_preempted()
    try:
        _dispatch(readable(arguments))
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        _fail(explain(error), error)
    except BrokenPipeError:  # `regraft list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        # Of the system's own errors the number is of no use.
        is_of_system = error.filename is not None and error.strerror
        _fail(f"{os.fsdecode(error.filename)}: {error.strerror}." if is_of_system else str(error), error)
    except ValueError as error:
        _fail(str(error), error)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if _NO_HOME in str(error):
            _fail("a path begins with ~ and a name that no user has; write ./~... if the file is called so.", error)
        first_line = (str(error).strip() or "no message").splitlines()[0]
        _fail(f"{type(error).__name__}: {first_line} (REGRAFT_DEBUG=1 shows where.)", error)
    sys.exit(0)


def _fail(sentence: str, error: Exception) -> NoReturn:
    if is_debugging():
        raise error
    if isinstance(error, FaultsError):
        print("\n".join(f"regraft: {line}" for line in sentences_of(error)), file=sys.stderr)
        sys.exit(1)
    if "Original Traceback" in sentence:
        # An error of a loader worker carries that process's traceback; its own words are on the last line.
        sentence = sentence.strip().splitlines()[-1].removeprefix(f"{type(error).__name__}: ")
    sentence = " ".join(sentence.split()) or type(error).__name__
    print(f"regraft: {sentence}", file=sys.stderr)
    sys.exit(1)


def _dispatch(arguments: list[str]) -> None:
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if verb in ("-h", "--help", "help"):
        print(help_text())
    elif verb == "--version":
        print(f"regraft {__version__}")
    elif verb in ("-sc", "--shell-completion"):
        complete(rest, lambda name, words: run_app(name, words, _train))
    elif verb == "list":
        list_choices(rest)
    elif verb == "train":
        _run_training(rest)
    elif verb == "eval":
        run_app("eval", with_appended_sections(with_checkpoint(rest)), _evaluate)
    elif verb in USAGES and {"-h", "--help"} & set(rest):
        print(usage_of(verb))
    elif verb == "check":
        _check(rest)
    elif verb == "resume":
        _resume(rest)
    elif verb == "reproduce":
        _reproduce(rest)
    elif verb == "probe":
        run_app("probe", rest, _probe)
    elif verb == "data":
        _check_data(rest)
    elif verb == "runs":
        from regraft.cli.commands.runs import runs

        runs(rest)
    elif verb == "compare":
        from regraft.cli.commands.compare import compare

        compare(rest)
    elif verb == "report":
        from regraft.cli.commands.report import report

        report(rest)
    elif verb == "predict":
        from regraft.cli.commands.predict import predict

        predict(rest)
    elif verb == "export":
        from regraft.cli.commands.verbs_export import export

        export(rest)
    elif verb == "serve":
        from regraft.cli.commands.serve import serve

        serve(rest)
    elif verb == "cache":
        from regraft.cli.commands.cache import cache

        cache(rest)
    elif verb == "_join":  # one process of a training on several devices; see verbs/devices.py
        from regraft.cli.commands.join import join

        join(rest[0])
    else:
        raise ValueError(unknown("verb", verb, list(VERBS)))


def _run_training(arguments: list[str]) -> None:
    """Trains, unless something is wrong with the command."""
    from regraft.cli.commands.check import require_sound_command

    require_sound_command(arguments)
    run_app("train", in_its_folder(arguments), _train)


def _train(config: DictConfig) -> Any:
    from regraft.cli.commands.train import train_job

    return train_job(config)


def _check(arguments: list[str]) -> None:
    from regraft.cli.commands.check import check

    check(arguments)


def _resume(arguments: list[str]) -> None:
    from regraft.sweeps.find import to_resume_sweep

    sweep = to_resume_sweep(arguments)
    if sweep is None:
        _run_training(to_resume(arguments))
        return
    if sweep.directory != Path.cwd():
        print(f"Going on in {sweep.directory}, where the sweep was started.")
    with contextlib.chdir(sweep.directory):
        run_app(sweep.verb, sweep.arguments, {"train": _train, "probe": _probe, "eval": _evaluate}[sweep.verb])


def _probe(config: DictConfig) -> Any:
    from regraft.cli.commands.probe import probe_job

    return probe_job(config)


def _reproduce(arguments: list[str]) -> None:
    from regraft.cli.commands.reproduce import reproduce_job, to_reproduce

    source, completed = to_reproduce(arguments)
    differences: list[str | None] = []
    run_app("train", completed, lambda config: differences.append(reproduce_job(config, source)))
    for difference in filter(None, differences):
        raise ValueError(difference)


def _check_data(arguments: list[str]) -> None:
    from regraft.cli.commands.data_check import data_check_job, to_check

    faults: list[str | None] = []
    run_app("data_check", to_check(arguments), lambda config: faults.append(data_check_job(config)))
    for fault in filter(None, faults):
        raise ValueError(fault)


def _evaluate(config: DictConfig) -> Any:
    from regraft.cli.commands.evaluate import evaluate_job

    return evaluate_job(config)
