"""The command line: verbs, each of which is a Hydra app of its own.

Nothing heavy is imported before a config is composed, so that help, completion and typing mistakes answer at once.
"""

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from regraft import __version__
from regraft.arguments import in_its_folder, to_resume, with_appended_sections, with_checkpoint
from regraft.composition import (
    conf_dir,
    explain,
    group_choices,
    group_names,
    groups_text,
    is_debugging,
    register_resolvers,
    unknown,
)
from regraft.startup import exit_when_preempted, limit_spinning

VERBS = {
    "train": "fine-tune a backbone: compose, train, test, keep everything in one run folder",
    "eval": "measure a trained run again: regraft eval run=<run>, or ckpt_path=<file>",
    "resume": "go on with a run in its own folder: regraft resume run=last",
    "reproduce": "train a run again, and see whether it finds the same: regraft reproduce run=best",
    "runs": "list runs and how each stands: regraft runs [WORD]...",
    "probe": "fit a grid of linear heads at once; the best one becomes a run",
    "cache": "stored features: regraft cache ls|size|clear",
    "list": "print what can be chosen: regraft list models|data|freezing|...",
}


_HANDLES = """RUN is a run's folder; last, the one that was started or continued last; best, the finished one with
the highest test/acc, else val/acc; or a unique part of a folder's name. output_dir=PATH says where to look for it."""
_USAGES = {
    "resume": "regraft resume run=RUN [trainer.max_epochs=N | key=value]... [resume.reset=[optimizer,scheduler]]",
    "reproduce": "regraft reproduce run=RUN [data.root=PATH] [trust=[...]]",
}

_FLAGS_WITH_VALUE = (
    *("--cfg", "-c", "--config-dir", "-cd", "--config-name", "-cn"),
    *("--config-path", "-cp", "--package", "-p"),
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one verb and exits: 0 when it worked, 1 for a mistake that the user can mend, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Hydra would print its own, shortened traceback and exit; with this its errors reach the sentence below.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    limit_spinning()
    exit_when_preempted()
    # So that a config may name a class in a file beside it, as with `python -m regraft`; installed modules come first.
    sys.path.append(str(Path.cwd()))
    try:
        _dispatch(arguments)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        _fail(explain(error), error)
    except BrokenPipeError:  # `regraft list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (ValueError, OSError) as error:
        _fail(str(error), error)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        first_line = (str(error).strip() or "no message").splitlines()[0]
        _fail(f"{type(error).__name__}: {first_line} (REGRAFT_DEBUG=1 shows where.)", error)
    sys.exit(0)


def _fail(sentence: str, error: Exception) -> NoReturn:
    if is_debugging():
        raise error
    if "Original Traceback" in sentence:
        # An error of a loader worker carries that process's traceback; its own words are on the last line.
        sentence = sentence.strip().splitlines()[-1].removeprefix(f"{type(error).__name__}: ")
    sentence = " ".join(sentence.split()) or type(error).__name__
    print(f"regraft: {sentence}", file=sys.stderr)
    sys.exit(1)


def _dispatch(arguments: list[str]) -> None:
    verb, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if verb in ("-h", "--help", "help"):
        print(_help())
    elif verb == "--version":
        print(f"regraft {__version__}")
    elif verb in ("-sc", "--shell-completion"):
        _complete(rest)
    elif verb == "list":
        _list(rest)
    elif verb == "train":
        _run_app("train", in_its_folder(rest), _train)
    elif verb == "eval":
        _run_app("eval", with_appended_sections(with_checkpoint(rest)), _evaluate)
    elif verb in _USAGES and {"-h", "--help"} & set(rest):
        print(f"usage: {_USAGES[verb]}\n{_HANDLES}")
    elif verb == "resume":
        _run_app("train", to_resume(rest), _train)
    elif verb == "reproduce":
        _reproduce(rest)
    elif verb == "probe":
        _run_app("probe", rest, _probe)
    elif verb == "runs":
        from regraft.verbs.runs import runs

        runs(rest)
    elif verb == "cache":
        from regraft.verbs.cache import cache

        cache(rest)
    elif verb == "_join":  # one process of a training on several devices; see verbs/devices.py
        from regraft.verbs.devices import join

        join(rest[0])
    else:
        raise ValueError(unknown("verb", verb, list(VERBS)))


def _run_app(config_name: str, arguments: list[str], job: Callable[[DictConfig], Any]) -> None:
    """Runs a verb's Hydra app. A job's error is kept until every job has ended, then raised past Hydra's own words."""
    errors: list[Exception] = []

    def held(config: DictConfig) -> Any:
        kept = Path(HydraConfig.get().runtime.output_dir, "traceback.txt")
        kept.unlink(missing_ok=True)  # of an earlier try in the same folder
        try:
            return job(config)
        except Exception as error:
            kept.write_text(traceback.format_exc(), encoding="utf-8")
            errors.append(error)
            return error

    register_resolvers()
    sys.argv = [sys.argv[0], *_flags_first(arguments)]
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(held)()
    if errors:
        raise errors[0]


def _flags_first(arguments: list[str]) -> list[str]:
    """Returns the arguments with flags before overrides: Hydra's parser takes overrides in one stretch only."""
    flags: list[str] = []
    overrides: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        flags.append(argument)
        if argument in _FLAGS_WITH_VALUE:
            flags += [value for value in [next(rest, None)] if value is not None]
    return [*flags, *overrides]


def _train(config: DictConfig) -> Any:
    from regraft.verbs.train import train_job

    return train_job(config)


def _probe(config: DictConfig) -> Any:
    from regraft.verbs.probe import probe_job

    return probe_job(config)


def _reproduce(arguments: list[str]) -> None:
    from regraft.verbs.reproduce import reproduce_job, to_reproduce

    source, completed = to_reproduce(arguments)
    differences: list[str | None] = []
    _run_app("train", completed, lambda config: differences.append(reproduce_job(config, source)))
    for difference in filter(None, differences):
        raise ValueError(difference)


def _evaluate(config: DictConfig) -> Any:
    from regraft.verbs.evaluate import evaluate_job

    return evaluate_job(config)


def _help() -> str:
    verbs = "\n".join(f"  {name:<9} {line}" for name, line in VERBS.items())
    return f"""Regraft {__version__}: new heads on pretrained backbones.

usage: regraft VERB [key=value | group=choice]... [-m] [--cfg job] [--help]

Verbs
{verbs}

Groups and their choices (`regraft list GROUP` says what each one is)
{groups_text()}

Examples
  regraft train experiment=quickstart
  regraft train data=folder data.root=photos model=resnet18 freezing=lp_ft
  regraft train -m optimizer.lr=1e-3,1e-2 freezing=linear_probe,lp_ft
  regraft runs
  regraft eval run=best
  regraft resume run=last
  regraft probe data=folder data.root=photos

Completion
  eval "$(regraft -sc install=bash)"        (or zsh; for fish: regraft -sc install=fish | source)
REGRAFT_DEBUG=1 shows the traceback behind an error."""


def _list(arguments: list[str]) -> None:
    config_dir = None
    if "--config-dir" in arguments:
        place = arguments.index("--config-dir")
        config_dir = arguments[place + 1]
        del arguments[place : place + 2]
    groups = group_names(config_dir)
    wanted = arguments or groups
    for name in wanted:
        spellings = (name, name.removesuffix("s"), name.removesuffix("es"))
        singular = next((word for word in spellings if word in groups), "")
        if singular not in groups:
            raise ValueError(unknown("group", name, groups))
        if len(wanted) > 1:
            print(f"{singular}:")
        for choice, line in group_choices(singular, config_dir).items():
            print(f"  {choice:<22} {line}")


def _complete(arguments: list[str]) -> None:
    """Answers Hydra's completion script: verbs first, then whatever the verb's Hydra app knows."""
    if not (arguments and arguments[0].startswith("query=")):
        _run_app("train", ["--shell-completion", *arguments], _train)  # install or uninstall: Hydra's own script
        return
    program, _, rest = os.environ["COMP_LINE"].partition(" ")
    verb, has_verb, overrides = rest.lstrip().partition(" ")
    if not has_verb:
        print(" ".join(name for name in VERBS if name.startswith(verb)))
    elif verb == "list":
        print(" ".join(group_names()))
    elif verb == "cache":
        print("ls size clear")
    elif verb in ("eval", "resume", "reproduce") and overrides.rpartition(" ")[2].startswith("run="):
        handle = overrides.rpartition(" ")[2]
        print(" ".join(word for word in _handles() if word.startswith(handle)))
    elif verb in ("train", "eval", "probe", "resume"):
        verb = "train" if verb == "resume" else verb
        known = [word for word in overrides.split(" ") if not word.startswith("run=")]
        os.environ["COMP_LINE"] = " ".join([program, *known])
        answer = io.StringIO()
        with contextlib.redirect_stdout(answer):
            _run_app(verb, ["--shell-completion", *arguments], _train)
        # Files that start with an underscore are what choices are made of, not choices.
        print(" ".join(word for word in answer.getvalue().split() if "=_" not in word))


def _handles() -> list[str]:
    """Returns what can stand for a run in the folder where runs are by default."""
    from regraft.handles import all_runs, name_of

    return ["run=last", "run=best", *(f"run={name_of(run, 'outputs')}" for run in all_runs("outputs"))]
