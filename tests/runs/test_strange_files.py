"""What lies in a folder of runs that no run wrote: pipes, devices, links in circles, absurd values."""

import json
import os
import signal
from pathlib import Path

import pytest

from helpers.command_line import run_main
from helpers.written import written_run

FILES = (
    *("state.json", "config.yaml", "results.json", "metrics.csv", "provenance.json", "heads.json"),
    *("traceback.txt", "predictions.safetensors", "calibration.json", "skipped.json"),
    *(".hydra/overrides.yaml", ".hydra/hydra.yaml", "checkpoints/last.ckpt", "checkpoints/best.ckpt"),
)


def replace_by_pipe(path):
    os.mkfifo(path)


def replace_by_device(path):
    path.symlink_to("/dev/zero")


def replace_by_itself(path):
    path.symlink_to(path)


def replace_by_folder(path):
    path.mkdir()


def replace_by_text(path):
    path.write_text("just words, and a lone \x00 byte")


def replace_by_number(path):
    path.write_text(json.dumps(10**400))


@pytest.fixture
def _limited():
    """Ends a test that waits for ever."""

    def give_up(*_):
        raise TimeoutError("it waits for ever")

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.mark.usefixtures("_limited")
@pytest.mark.parametrize(
    "replace",
    [replace_by_pipe, replace_by_device, replace_by_itself, replace_by_folder, replace_by_text, replace_by_number],
)
def test_one_strange_file_stops_no_command(replace, capsys):
    outputs = Path("outputs").resolve()
    written_run(outputs / "sound", [0.5, 0.75])
    for number, name in enumerate(FILES):
        run = written_run(outputs / f"strange{number}", [0.5])
        path = run.path / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        replace(path)
    (outputs / "circle").symlink_to(outputs)
    for command, said in ((["runs"], ""), (["compare"], f"Comparing {1 + len(FILES)} runs ...\n")):
        code, out, err = run_main(command, capsys)
        assert (code, err) == (0, said)
        assert "sound" in out
    for number in range(len(FILES)):
        for command in ("report", "resume", "eval"):
            _, _, err = run_main([command, f"run=outputs/strange{number}"], capsys)
            assert "Error: " not in err.replace("Errno", "")
            assert "REGRAFT_DEBUG" not in err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("results.json", {"metrics": {"test/acc": 10**400, "val/acc": 1e300}}),
        ("results.json", {"metrics": {"test/acc": [1], "val/acc": None}, "seconds": "long"}),
        ("state.json", {"status": "running", "pid": 10**30, "started": "9999-12-31T23:59:59-12:00"}),
        ("state.json", {"status": "finished", "started": "0001-01-01T00:00:00+14:00"}),
        ("state.json", {"status": "running", "pid": -1, "host": os.uname().nodename}),
        ("provenance.json", {"sessions": [{"seconds": 10**400, "data": {"fingerprint": 3}}, 5]}),
    ],
)
def test_absurd_values_stop_no_command(name, content, capsys):
    outputs = Path("outputs").resolve()
    written_run(outputs / "sound", [0.5, 0.75])
    (written_run(outputs / "strange", [0.5]).path / name).write_text(json.dumps(content))
    for command in (["runs"], ["compare"], ["report", "run=strange"]):
        code, out, err = run_main(command, capsys)
        assert code == 0
        assert not err or err.startswith(("Comparing 2 runs ...", "Writing the report of "))
        assert "sound" in out or command[0] == "report"
