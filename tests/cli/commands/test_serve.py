import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from helpers.command_line import run_main
from helpers.processes import start_regraft


def test_it_answers_until_ctrl_c(small_run):
    process, log = start_regraft(["serve", f"run={small_run.path}", "port=0", "device=cpu"]), Path("processes.log")
    try:
        while not log.exists() or " at " not in log.read_text():
            assert process.is_alive()
            time.sleep(0.02)
        address = log.read_text().split(" at ")[1].split(" ")[0]
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}/health", timeout=60) as answer:
            assert b'"status":"ok"' in answer.read()
        with pytest.raises(urllib.error.HTTPError, match="405"):
            urllib.request.urlopen(f"{address}/predict", timeout=60)
        os.kill(process.pid, signal.SIGINT)
        process.join(timeout=60)
        assert log.read_text().endswith("Ended.\n")
        assert process.exitcode == 0
    finally:
        process.kill()


def test_a_port_that_is_taken_is_said_at_once(small_run, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, _, err = run_main(["serve", f"run={small_run.path}", f"port={port}"], capsys)
    assert (code, err) == (
        1,
        f"regraft: host: port {port} of 127.0.0.1 is taken. Use another port=, or port=0 for a free one.\n",
    )


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("port=70000", "port: got 70000; allowed: 0 (a free one) to 65535."),
        ("port=web", "port: got 'web'"),
        ("host=192.0.2.7", "isn't an address of this machine"),
        ("host=no.such.name.invalid", "can't listen at"),
        ("max_photos=0", "max_photos: got 0; allowed: 1, 2, 3, ..."),
        ("allowed_hosts=me", "allowed_hosts: got 'me'; allowed: a list of names"),
        ("prot=80", "unknown key 'prot'. Did you mean 'port'?"),
        ("--reload", "serve: got '--reload'"),
    ],
)
def test_a_mistake_is_said(small_run, capsys, override, sentence):
    code, _, err = run_main(
        ["serve", f"run={small_run.path}", *(["port=0"] if "port=" not in override else []), override], capsys
    )
    assert code == 1
    assert sentence in err


def test_what_isnt_installed_is_named_with_the_extra(small_run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, _, err = run_main(["serve", f"run={small_run.path}"], capsys)
    assert (code, err) == (1, "regraft: serve: it needs uvicorn. Run pip install 'regraft[serve]'.\n")


def test_help_says_who_can_reach_it(capsys):
    code, out, _ = run_main(["serve", "--help"], capsys)
    assert code == 0
    assert "host=127.0.0.1" in out
