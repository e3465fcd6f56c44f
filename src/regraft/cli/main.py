"""The command line.

Nothing heavy is imported before a config is composed, so that help, completion and error messages come at once.
"""

import io
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import yaml
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from regraft import __version__
from regraft.cli import commands
from regraft.cli.completion import complete
from regraft.cli.help import help_text
from regraft.config.compose import is_debugging
from regraft.config.hydra_messages import mistakes_in
from regraft.config.quoting import readable, repeated
from regraft.core.errors import ConfigError, ConfigErrors
from regraft.core.launcher import require_alone
from regraft.core.processes import program_seconds
from regraft.core.startup import end_quickly, start_clock, take_over_process
from regraft.core.text import LogFormatter, say

_COMPOSED = ("train", "eval", "probe", "auto", "rank", "fill")
"""Configs of which Hydra takes the last value of a key that is given twice."""
_NO_HOME = "Could not determine home directory"  # pathlib's words


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and exits: 0 if it worked, 1 for an error that the user can fix, 130 after Ctrl-C."""
    # A process that calls this function may be much older than the command.
    is_whole_process = arguments is None
    start_clock(program_seconds() if is_whole_process else 0.0)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Otherwise Hydra prints a shortened traceback and exits.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    take_over_process()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a class name may have letters that the terminal lacks
    if logging.lastResort is not None:  # what shows warnings of commands without a log
        logging.lastResort.setFormatter(LogFormatter())
    try:
        _require_current_folder()
        _dispatch(readable(arguments))
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        _fail(ConfigErrors(mistakes_in(error)), error)
    except ConfigErrors as error:
        _fail(error, error)
    except BrokenPipeError:  # `regraft list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        # Without the error number of the system's errors.
        is_of_system = error.filename is not None and error.strerror
        is_in_the_way = isinstance(error, FileExistsError | NotADirectoryError)
        reason = "a file is where a folder should be" if is_in_the_way else error.strerror
        _fail(f"{os.fsdecode(error.filename)}: {reason}." if is_of_system else str(error), error)
    except ValueError as error:
        _fail(str(error), error)
    except ModuleNotFoundError as error:
        first_line = (str(error).strip() or f"the package {error.name} is missing").splitlines()[0]
        _fail(f"{first_line.rstrip('.')}. Install what is missing with pip.", error)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if _NO_HOME in str(error):
            _fail("a path begins with ~ and a name that no user has; write ./~... if that is the file's name.", error)
        first_line = (str(error).strip() or "no message").splitlines()[0]
        _fail(f"{type(error).__name__}: {first_line} (REGRAFT_DEBUG=1 shows where.)", error)
    if is_whole_process:
        end_quickly()
    sys.exit(0)


def _require_current_folder() -> None:
    try:
        Path.cwd()
    except FileNotFoundError as error:
        fix = "Change to one that exists (cd)."
        raise ConfigErrors([ConfigError(None, "the current folder has been deleted", fix=fix)]) from error


def _fail(said: str | ConfigErrors, error: Exception) -> NoReturn:
    """Prints one line per error, and exits."""
    if is_debugging():
        raise error
    if isinstance(said, ConfigErrors):
        say("\n".join(f"regraft: {line}" for line in said.messages), is_error=True)
        sys.exit(1)
    sentence = said
    if "Original Traceback" in sentence:
        # An error of the thread that pins memory has its traceback; the message is on the last line.
        last_line = sentence.strip().splitlines()[-1].removeprefix(f"{type(error).__module__}.")
        sentence = last_line.removeprefix(f"{type(error).__name__}: ")
    sentence = " ".join(sentence.split()) or type(error).__name__
    say(f"regraft: {sentence}", is_error=True)
    sys.exit(1)


def _dispatch(arguments: list[str]) -> None:
    name, rest = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name in ("-h", "--help", "help"):
        say(help_text())
    elif name == "--version":
        say(f"regraft {__version__}")
    elif name in ("-sc", "--shell-completion"):
        complete(rest)
    else:
        command = commands.find(name)
        if rest and rest[-1] in ("-h", "--help"):
            say(commands.summary(name))
        if command.help is not None and {"-h", "--help"} & set(rest):
            say(command.help)
        else:
            if not command.shares_work:
                require_alone()
            if command.config_name in _COMPOSED:  # others refuse it
                for key, value in repeated(rest).items():
                    say(f"regraft: {key} is given more than once; the last one counts, {key}={value}", is_error=True)
            command.run(rest)
