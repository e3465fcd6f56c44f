"""`regraft auto` makes a run of the best candidate, which a second call finds and a command repeats."""

import itertools
import json
import shlex
from pathlib import Path

import pytest

import regraft
from helpers.command_line import run_main
from regraft.cli.commands import auto
from regraft.data.datamodule import DataModule
from regraft.runs.find import find_run
from regraft.runs.searches import SearchCommand
from regraft.training.auto.search import Search

WORDS = ["auto", "data=digits", "data.fraction=0.2", "trainer=cpu", "models=[simple_cnn]", "sizes=[8,16]"]


class Killed(BaseException):
    """In the place of a SIGKILL: nothing handles it."""


def killed(*_: object) -> None:
    raise Killed


def record_of(folder: Path) -> dict:
    return json.loads((folder / "auto.json").read_text())


def test_a_search_ends_with_a_tested_run_that_a_second_one_finds_and_a_command_repeats(capsys):
    code, out, _ = run_main([*WORDS, "trials=2"], capsys)
    assert code == 0
    (folder,) = Path("outputs").resolve().iterdir()
    record = record_of(folder)
    assert [each["candidate"] for each in record["candidates"]] == ["simple_cnn at 8 px", "simple_cnn at 16 px"]
    assert sum(each["reason"] is None for each in record["candidates"]) == 1
    best = find_run("last", "outputs")
    assert best.path == folder / record["winner"]
    assert "test/acc" in best.metrics
    assert [path.name for path in folder.glob("*-*")] == [best.path.name]  # the first run has been replaced
    page = (folder / "report.html").read_text()
    assert f"{best.metrics['test/acc']:.4f}" in page
    again = out[out.index("again: ") + len("again: ") :].splitlines()[0]
    assert shlex.split(again)[:2] == ["regraft", "train"]
    assert regraft.train([*shlex.split(again)[2:], "trainer.enable_progress_bar=false"]).metrics == best.metrics

    assert regraft.auto([*WORDS[1:], "trials=2", "output_dir=outputs"]) == best
    assert record_of(folder)["runs"] == record["runs"]


def test_a_budget_that_is_over_before_anything_is_known_is_one_sentence(capsys, monkeypatch):
    monkeypatch.setattr(auto, "seconds_since_start", lambda: 60.0)
    code, _, err = run_main([*WORDS, "time=50"], capsys)
    assert code == 1
    assert err.startswith("regraft: time: got 50; 60 s have passed, and simple_cnn at 8 px takes ")
    assert "Give at least time=" in err
    assert err.count("\n") == 1


def test_images_that_change_during_a_search_are_noticed(capsys, monkeypatch):
    monkeypatch.setattr(DataModule, "fingerprint", property(lambda _: f"{next(numbers)}"))
    numbers = itertools.count()
    code, _, err = run_main([*WORDS, "trials=1"], capsys)
    assert code == 1
    assert "data: the images have changed since the search began" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["time=1"], "time: got 1; allowed: seconds, 5 or more"),
        (["time=soon"], "time: got 'soon'; allowed: seconds, 5 or more"),
        (["trials=0"], "trials: got 0; allowed: 1, 2, 3, ..., or null"),
        (["trials=2", "time=60"], "trials: it is given together with time. Give one of the two."),
        (["-m"], "unknown flag '-m'"),
    ],
)
def test_mistakes_are_reported(words, message, capsys):
    code, _, err = run_main([*WORDS, *words], capsys)
    assert code == 1
    assert message in err
    assert not Path("outputs").exists()


def test_a_search_that_was_killed_is_resumed_to_the_same_end_and_has_a_run_meanwhile(capsys, monkeypatch):
    whole = regraft.auto([*WORDS[1:], "trials=2", "output_dir=whole"])
    with monkeypatch.context() as patched:
        patched.setattr(Search, "_finish", killed)
        with pytest.raises(Killed):
            regraft.auto([*WORDS[1:], "trials=2"])
    (folder,) = Path("outputs").resolve().iterdir()
    early = find_run(folder.name, "outputs")
    assert early == find_run("auto-digits", "outputs") == find_run(str(folder), "outputs")
    assert early.path == folder / record_of(folder)["winner"]
    assert early.last_ckpt.is_file()
    assert run_main(["resume", f"run={folder.name}"], capsys)[0] == 0
    resumed = find_run(folder.name, "outputs")
    assert resumed.metrics == whole.metrics
    assert not early.path.exists()  # the better one has replaced it


def test_a_search_without_a_run_says_how_to_continue_it(capsys, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Search, "run", killed)
        with pytest.raises(Killed):
            regraft.auto([*WORDS[1:], "trials=1"])
    code, _, err = run_main(["predict", "run=auto-digits", "input=photo.jpg"], capsys)
    assert code == 1
    assert "has no run yet. To continue the search: regraft resume run=" in err


def test_where_the_folder_of_a_searchs_command_is_gone_it_says_what_paths_are_relative_to(capsys, monkeypatch):
    monkeypatch.setattr(auto, "_search", lambda command: command.given)
    assert auto.search_again(SearchCommand(["data=digits"], None, "/gone")) == ["data=digits"]
    assert f"/gone, where the search was started, is gone; paths are relative to {Path.cwd()}" in capsys.readouterr()[0]
