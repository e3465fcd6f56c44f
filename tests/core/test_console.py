"""What slow commands say while they work."""

from regraft.core.console import steps_shown


def test_each_step_is_said_on_stderr(capsys):
    with steps_shown() as tell:
        tell("Converting [the] model")
    found = capsys.readouterr()
    assert (found.out, found.err) == ("", "Converting [the] model ...\n")
