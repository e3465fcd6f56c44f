"""The command line, called in this process; and what a process of its own imports."""

import subprocess
import sys
from collections.abc import Sequence

import pytest

from regraft.cli.main import main


def run_main(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    """Returns (exit code, stdout, stderr) of the command line."""
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    captured = capsys.readouterr()
    return exit_info.value.code, captured.out, captured.err


HEAVY = ("torch", "pytorch_lightning", "timm", "sklearn")


def imported_by(code: str, names: Sequence[str] = HEAVY) -> list[str]:
    """Returns which of some modules a program imports that runs code in the current folder."""
    program = f"import atexit, sys; atexit.register(lambda: print(*(n for n in {names!r} if n in sys.modules)))\n{code}"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return answer.stdout.split("\n")[-2].split()
