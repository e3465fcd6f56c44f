"""`regraft auto` makes a run of the best candidate, which a second call finds and a command repeats."""

import contextlib
import itertools
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import regraft
from helpers.command_line import run_main
from regraft.cli import search_clock
from regraft.cli.commands import auto, train
from regraft.config.quoting import value_of
from regraft.core.image_spec import ImageSpec
from regraft.core.time_limit import TimeOver
from regraft.data.datamodule import DataModule
from regraft.runs.find import find_run
from regraft.runs.searches import SearchCommand
from regraft.training.auto import tuning
from regraft.training.auto.choice import Choice
from regraft.training.auto.record import Record
from regraft.training.auto.search import Search

WORDS = ["auto", "data=digits", "data.fraction=0.2", "trainer=cpu", "models=[simple_cnn]", "sizes=[8,16]"]


class Killed(BaseException):
    """In the place of a SIGKILL: nothing handles it."""


def killed(*_: object) -> None:
    raise Killed


def record_of(folder: Path) -> dict:
    return json.loads((folder / "auto.json").read_text())


def test_a_search_ends_with_a_tested_run_that_a_second_one_finds_and_a_command_repeats(capsys):
    Path("mine").mkdir()
    code, out, _ = run_main([*WORDS, "trials=2", "--config-dir", "mine"], capsys)
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
    assert shlex.split(again)[:4] == ["regraft", "train", "--config-dir", "mine"]
    assert regraft.train([*shlex.split(again)[4:], "trainer.enable_progress_bar=false"]).metrics == best.metrics

    assert regraft.auto([*WORDS[1:], "trials=2", "output_dir=outputs"]) == best
    assert record_of(folder)["runs"] == record["runs"]
    assert set(record_of(folder)["again"]) == {*record["again"], "output_dir=outputs"}


def test_a_budget_that_is_over_before_anything_is_known_is_one_sentence(capsys, monkeypatch):
    monkeypatch.setattr(search_clock, "seconds_since_start", lambda: 60.0)
    code, _, err = run_main([*WORDS, "time=50"], capsys)
    assert code == 1
    assert re.fullmatch(r"regraft: time: got 50; 60 s have passed without a run\. Give at least time=\d+\.\n", err)


@pytest.mark.parametrize(("passed", "least"), [(0.2, None), (2.7, 41)])
def test_a_budget_that_the_start_alone_makes_hopeless_is_refused_before_anything_is_imported(
    passed, least, capsys, monkeypatch
):
    monkeypatch.setattr(search_clock, "seconds_since_start", lambda: passed)
    monkeypatch.setattr(auto, "_begun", killed)
    if least is None:
        with pytest.raises(Killed):
            regraft.auto([*WORDS[1:], "time=5"])
    else:
        _, _, err = run_main([*WORDS, "time=5"], capsys)
        assert err == f"regraft: time: got 5; 3 s have passed without a run. Give at least time={least}.\n"


def test_the_limit_of_time_ends_before_what_was_found_is_shown(monkeypatch):
    limits = []

    @contextlib.contextmanager
    def limit(seconds: float) -> Iterator[None]:
        limits.append(seconds)
        yield
        limits.pop()

    class Begun:
        def run(self) -> int:
            return len(limits)

        def shown(self, best: int, clock: search_clock.SearchClock) -> tuple[int, int]:
            return best, len(limits)

    monkeypatch.setattr(auto, "time_limit", limit)
    monkeypatch.setattr(auto, "_begun", lambda *_: Begun())
    assert regraft.auto([*WORDS[1:], "time=60"]) == (1, 0)


def test_a_run_that_is_not_whole_when_the_time_is_over_is_removed(tmp_path, monkeypatch):
    def stop(words: list[str], *_: object, **more: object) -> None:
        (folder,) = (Path(value_of("hydra.run.dir", [word])) for word in words if word.startswith("hydra.run.dir"))
        folder.mkdir()
        raise TimeOver

    monkeypatch.setattr(train, "train_once", stop)
    record = Record.of(tmp_path, SearchCommand([], None, "."))
    choice = Choice("simple_cnn", ImageSpec, None, (), dict)
    with pytest.raises(TimeOver):
        auto._trained(record, choice, 1.0, [], None, "", is_tested=False)
    assert not list(tmp_path.iterdir())


def test_images_that_change_during_a_search_are_noticed(capsys, monkeypatch):
    monkeypatch.setattr(DataModule, "fingerprint", property(lambda _: f"{next(numbers)}"))
    numbers = itertools.count()
    code, _, err = run_main([*WORDS, "trials=1"], capsys)
    assert code == 1
    assert "data: the images have changed since the search began" in err
    assert "regraft resume run=" in err


def test_images_that_are_deleted_during_a_search_are_noticed_and_a_run_is_left(capsys, monkeypatch):
    generator = np.random.default_rng(1)
    for number in range(24):
        path = Path("photos", "cat" if number % 2 else "dog", f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        # Of much noise, the smallest size is the best one, which takes another run than the first.
        pixels = generator.normal(128 + 12 * (number % 2), 60, (20, 20)).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
    words = ["auto", "data=folder", "data.root=photos", "trainer=cpu", "models=[simple_cnn]", "sizes=[16,12,8]"]
    usual = Search._try

    def deleting(self: Search, *words: object) -> None:
        shutil.rmtree("photos")
        usual(self, *words)

    monkeypatch.setattr(Search, "_try", deleting)
    code, _, err = run_main([*words, "trials=3"], capsys)
    assert code == 1
    assert err.startswith("regraft: data: the images have changed since the search began. To search again, without")
    assert find_run("auto-folder", "outputs").last_ckpt.is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["time=1"], "time: got 1; allowed: seconds, 5 or more"),
        (["time=soon"], "time: got 'soon'; allowed: seconds, 5 or more"),
        (["trials=0"], "trials: got 0; allowed: 1, 2, 3, ..., or null"),
        (["trials=2", "time=60"], "trials: it is given together with time. Give one of the two."),
        (["hydra.run.dir=mine"], "hydra.run.dir: a search has a folder of its own"),
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
    assert early.path.exists() == (early == resumed)  # a better one replaces it


def test_a_search_without_a_run_says_how_to_continue_it(capsys, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Search, "run", killed)
        with pytest.raises(Killed):
            regraft.auto([*WORDS[1:], "trials=1"])
    code, _, err = run_main(["predict", "run=auto-digits", "input=photo.jpg"], capsys)
    assert code == 1
    assert "has no run yet. To continue the search: regraft resume run=" in err


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_search_that_is_stopped_says_how_to_continue_it(capsys, monkeypatch):
    monkeypatch.setattr(Search, "run", interrupted)
    code, out, _ = run_main([*WORDS, "trials=1"], capsys)
    assert code == 130
    (folder,) = Path("outputs").resolve().iterdir()
    assert f"Stopped. To continue the search: regraft resume run={folder}\n" in out


def test_a_search_is_continued_with_its_own_options_and_in_its_own_folder(capsys):
    command = {"overrides": WORDS[1:], "config_dir": None, "directory": str(Path.cwd())}
    folder = Path("outputs", "auto-digits-0").resolve()
    folder.mkdir(parents=True)
    (folder / "auto.json").write_text(json.dumps({"command": command}))
    code, _, err = run_main(["resume", "run=auto-digits", "seed=2"], capsys)
    assert code == 1
    assert "seed: got 'seed=2'; a search is continued with its own options" in err
    assert "unknown flag '-m'" in run_main(["resume", "run=auto-digits", "-m"], capsys)[2]
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere; give one with your own configs"):
        regraft.resume(["run=auto-digits"], config_dir="nowhere")
    with pytest.raises(ValueError, match="holds a search with other options, as its configs have changed"):
        regraft.resume(["run=auto-digits", "time=60"])
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_where_the_folder_of_a_searchs_command_is_gone_it_says_what_paths_are_relative_to(capsys, monkeypatch):
    monkeypatch.setattr(auto, "_search", lambda command, _: command.given)
    assert auto.search_again(SearchCommand(["data=digits"], None, "/gone"), Path("auto-digits-0")) == ["data=digits"]
    assert f"/gone, where the search was started, is gone; paths are relative to {Path.cwd()}" in capsys.readouterr()[0]


@pytest.fixture
def few_epochs(monkeypatch):
    monkeypatch.setattr(tuning, "MOST_EPOCHS", 2)
    monkeypatch.setattr(tuning, "FEWEST_EPOCHS", 2)
    monkeypatch.setattr(tuning, "LAST_EPOCHS", 2)


def test_fine_tuning_that_gains_more_than_chance_is_kept_and_a_command_repeats_it(few_epochs, monkeypatch):
    monkeypatch.setattr(tuning.Verdict, "is_better", property(lambda _: True))
    words = [*WORDS[1:], "sizes=[8]", "time=2000"]
    best = regraft.auto(words)
    record = record_of(best.path.parent)
    (trials,) = record["tuning"]
    assert (trials["num_epochs"], trials["num_images"]) == (2, 287)  # a fifth of all, as many as a fifth are trained on
    assert best.path.name == record["winner"] == "1-simple_cnn-8-tuned"
    assert "refit" not in best.results  # trained once, on all of them
    assert sorted(path.name for path in best.path.parent.glob("[!.]*-*")) == ["0-simple_cnn-8", best.path.name]
    assert not list(best.path.parent.glob(".trials"))
    assert find_run("last", "outputs") == best  # and no trial
    again = regraft.train([*record["again"], "trainer.enable_progress_bar=false"])
    assert again.metrics == best.metrics
    assert "Fine-tuning" in (best.path.parent / "report.html").read_text()
    assert regraft.auto(words) == best
    assert record_of(best.path.parent)["runs"] == record["runs"]


def test_fine_tuning_that_gains_nothing_is_not_kept(few_epochs, capsys, monkeypatch):
    monkeypatch.setattr(tuning.Verdict, "is_better", property(lambda _: False))
    monkeypatch.setattr(tuning.Verdict, "is_open", property(lambda _: False))
    code, out, _ = run_main([*WORDS, "sizes=[8]", "time=2000"], capsys)
    assert code == 0
    assert "Fine-tuning isn't kept: its gain of log loss, " in out
    best = find_run("last", "outputs")
    assert "test/acc" in best.metrics
    assert "closed_form" in best.results
    _, out, _ = run_main([*WORDS, "sizes=[8]", "time=2000"], capsys)
    assert "an earlier search found that 2 epochs gain nothing" in out


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["labels", "numbers"])
def test_fine_tuning_for_labels_and_numbers_is_tried_and_kept(few_epochs, monkeypatch, kind):
    monkeypatch.setattr(tuning.Verdict, "is_better", property(lambda _: True))
    rows = ["image,shade,redness,kinds"]
    for number in range(40):
        shade, redness = 5 * number, number % 3
        Image.new("RGB", (8, 8), (shade // 2 + 20 * redness, shade, shade)).save(f"{number:02}.png")
        kinds = [
            name for name, holds in {"dark": shade < 100, "red": redness, "even": number % 2 == 0}.items() if holds
        ]
        rows.append(f"{number:02}.png,{shade},{redness},{'|'.join(kinds)}")
    Path("table.csv").write_text("\n".join(rows), encoding="utf-8")
    given = {"labels": ["data.label=kinds", "task=multilabel"], "numbers": ["data.label=[shade,redness]"]}[kind]
    words = ["data=table", "data.path=table.csv", *given, "data.num_workers=0", "trainer=cpu"]
    best = regraft.auto([*words, "models=[simple_cnn]", "sizes=[8]", "time=2000"])
    (trials,) = record_of(best.path.parent)["tuning"]
    assert best.path.name == "1-simple_cnn-8-tuned"
    assert trials["num_images"] < 40
    assert {"labels": "test/map", "numbers": "test/r2"}[kind] in best.metrics


def test_the_backbone_of_a_run_is_a_candidate_unless_it_was_trained_on_these_images(capsys):
    small = [*WORDS[1:4], "model=simple_cnn", "model.image_size=8"]
    own = regraft.train([*small, "freezing=none", "trainer.max_epochs=1"])
    words = ["auto", *WORDS[2:4], f"models=[simple_cnn,'{own.path}']", "sizes=[8]", "trials=2"]
    code, out, _ = run_main([*words, "data=digits"], capsys)
    assert code == 0
    assert "it was trained on these images" in " ".join(out.split())
    other = regraft.train(small)
    code, out, _ = run_main(["auto", *WORDS[1:4], f"models=['{other.path}']", "sizes=[8]", "trials=1"], capsys)
    assert code == 0
    assert find_run("last", "outputs").config["model"]["path"] == str(other.path)
