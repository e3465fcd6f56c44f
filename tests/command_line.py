"""The command line, called in this process."""

import pytest

from regraft.cli import main


def run_main(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    """Returns (exit code, stdout, stderr) of the command line."""
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    captured = capsys.readouterr()
    return exit_info.value.code, captured.out, captured.err
