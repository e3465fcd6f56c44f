import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import regraft
from helpers.command_line import run_main
from helpers.small import SMALL, without
from helpers.stopping import content_of, stopped_run
from regraft.core.safe_load import load_safely
from regraft.runs import checkpoint as reading
from regraft.runs import provenance
from regraft.runs.folder import Run
from regraft.training.callbacks.checkpoint import LastCheckpoint


def test_a_run_says_what_it_came_to(small_run):
    state = small_run.state
    assert (state["status"], state["step"], state["epoch"]) == ("finished", small_run.results["num_steps"], 2)
    (session,) = provenance.sessions(small_run)
    assert session["overrides"][0] == "data=digits"
    assert session["seconds"] >= small_run.results["seconds"]
    checkpoint = torch.load(small_run.last_ckpt, weights_only=True)
    assert session["data"]["fingerprint"] == checkpoint["hyper_parameters"]["fingerprint"]


def test_a_finished_run_says_so(run, capsys):
    before = {path: path.read_bytes() for path in run.path.glob("*.json")}
    code, out, err = run_main(["resume", "run=last"], capsys)
    assert (code, err) == (0, "")
    assert "has finished (epochs: 2" in out
    assert "trainer.max_epochs=12" in out
    assert {path: path.read_bytes() for path in run.path.glob("*.json")} == before


@pytest.mark.parametrize(("name", "content"), [("results.json", '{"metr'), ("config.yaml", "{{{")])
def test_a_finished_run_whose_files_are_damaged_ends_anew(name, content, run):
    (run.path / name).write_text(content)
    before = run.results if name != "results.json" else None
    again = regraft.resume([f"run={run.path}"])
    assert again.is_finished
    assert again.config["seed"] == 0
    assert again.results["num_epochs"] == 2
    assert before is None or again.metrics == before["metrics"]


def test_a_finished_run_is_lengthened_in_its_folder(run, capsys):
    code, out, _ = run_main(["resume", "run=last", "trainer.max_epochs=3"], capsys)
    assert code == 0
    assert "Changed in the resumed run: trainer.max_epochs=3 (was 2)." in out
    assert run.results["num_epochs"] == 3
    assert provenance.sessions(run)[1]["overrides"] == [f"ckpt_path='{run.path}'", "trainer.max_epochs=3"]
    assert list(run.path.parent.iterdir()) == [run.path]


def test_python_does_the_same_and_reads_the_checkpoint_once(run, monkeypatch):
    paths = []
    monkeypatch.setattr(reading, "load_safely", lambda path: paths.append(path) or load_safely(path))
    assert regraft.resume([f"run={run.path}", "trainer.max_epochs=3"]).results["num_epochs"] == 3
    assert paths == [run.last_ckpt]
    assert regraft.resume(["run=best"]).path == run.path


def test_what_was_lengthened_and_killed_keeps_its_length(run):
    run.write_config(run.config | {"trainer": run.config["trainer"] | {"max_epochs": 3}})
    run.write_state(run.state | {"status": "running", "pid": 2**22, "process": 1})
    assert regraft.resume(["run=last"]).results["num_epochs"] == 3


def test_a_run_that_is_running_is_left_alone(run, capsys):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        run.write_state(run.state | {"status": "running", "pid": other.pid, "process": None})
        code, _, err = run_main(["resume", "run=last"], capsys)
        other.communicate(b"\n")
    assert code == 1
    assert f"is running, as process {other.pid}" in err


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["optimizer.lr=0.5"], "resume.reset=[optimizer,scheduler] resets both"),
        (["freezing=lp_ft"], "which stages have trained depends on it"),
        (["seed=7"], "seed: a resumed run keeps its settings"),
        (["resume.reset=[model]"], "resume.reset: got ['model']; allowed: a list of optimizer, scheduler"),
        (["--multirun"], "one run at a time"),
    ],
)
def test_what_cant_be_changed_is_one_sentence(run, overrides, sentence, capsys):
    before = run.state
    code, _, err = run_main(["resume", "run=last", "trainer.max_epochs=3", *overrides], capsys)
    assert code == 1
    assert sentence in err
    assert err.count("\n") == 1
    assert run.state == before


def test_a_new_run_has_nothing_to_reset():
    with pytest.raises(ValueError, match=r"resume\.reset: a new run has no state"):
        regraft.train([*SMALL, "resume.reset=[optimizer]"])


def test_a_run_that_a_limit_of_time_ended_resumes_with_as_much_time_again(capsys):
    limited = [*without("trainer.max_epochs"), "trainer.max_epochs=500", "+trainer.max_time=00:00:00:01"]
    code, out, _ = run_main(["train", *limited, "hydra.run.dir=limited"], capsys)
    run = Run(Path("limited").resolve())
    first = run.results["num_steps"]
    assert (code, run.state["status"]) == (0, "limited")
    assert run.is_finished
    assert run.state["reason"].startswith("trainer.max_time=00:00:00:01, after ")
    assert f"To continue it: regraft resume run={run.path}" in out
    code, out, _ = run_main(["runs", "output_dir=."], capsys)
    assert f"finished at step {first}" in out.replace("\n", "")
    code, out, _ = run_main(["resume", "run=limited"], capsys)
    assert (code, run.state["status"]) == (0, "limited")
    assert run.results["num_steps"] > first + 1
    longer = regraft.resume(["run=limited", "trainer.max_time=null", f"trainer.max_epochs={run.state['epoch'] + 1}"])
    assert longer.state["status"] == "finished"


def test_a_run_that_a_limit_of_steps_ended_resumes_without_it(capsys):
    run = regraft.train([*SMALL, "trainer.max_steps=3", "hydra.run.dir=limited"])
    assert (run.state["status"], run.results["limit"]) == ("limited", "trainer.max_steps=3, after 1 of 2 epochs")
    before = (run.path / "results.json").read_bytes()
    for more in ([], ["trainer.max_epochs=3"]):
        code, out, _ = run_main(["resume", "run=limited", *more], capsys)
        assert code == 0
        assert f"To lengthen it: regraft resume run={run.path} trainer.max_steps=6" in out
    assert (run.path / "results.json").read_bytes() == before
    assert regraft.resume(["run=limited", "trainer.max_steps=-1"]).results["num_epochs"] == 2


@pytest.mark.parametrize("wrong", [["data=digits", "data.shots=100000"], ["data=folder", "data.root=nowhere"]])
def test_a_refused_run_leaves_no_trace(wrong, capsys):
    arguments = [*without("data"), *wrong]
    code, _, err = run_main(["train", *arguments], capsys)
    assert code == 1
    assert err.startswith("regraft: data.")
    with pytest.raises(ValueError, match=r"^data\."):
        regraft.train(arguments)
    assert not Path("outputs").exists()


def test_a_refused_evaluation_leaves_no_trace(run, capsys):
    assert run_main(["eval", "run=last", "data.root=nowhere"], capsys)[0] == 1
    assert list(run.path.parent.parent.iterdir()) == [run.path.parent]


def test_evaluation_takes_a_handle(run):
    assert regraft.evaluate(["run=last"]).items() >= run.metrics.items()
    assert regraft.evaluate([f"run={run.path.name[-6:]}"]).items() >= run.metrics.items()


def test_help_needs_no_run(capsys):
    code, out, _ = run_main(["resume", "--help"], capsys)
    assert code == 0
    assert "resume.reset=[optimizer,scheduler]" in out


def test_a_schedule_that_starts_from_scratch_is_as_long_as_what_is_left():
    run = regraft.train([*without("trainer.max_epochs"), "scheduler=cosine", "trainer.max_epochs=1"])
    regraft.resume([f"run={run.path}", "trainer.max_epochs=2", "resume.reset=[scheduler]"])
    # The next session knows where it began.
    longer = regraft.resume([f"run={run.path}", "trainer.max_epochs=3"])
    rates = [row["lr/head"] for row in longer.logged_rows(before_step=10**9) if "lr/head" in row]
    assert rates[1] == rates[0]
    assert rates[2] == pytest.approx(rates[1] / 2)


def test_a_new_learning_rate_is_applied_where_the_optimizer_starts_from_scratch(tmp_path):
    kept = without("trainer.max_epochs")
    run = regraft.train([*kept, "scheduler=constant", "trainer.max_epochs=1"])
    resumed = regraft.resume(
        [f"run={run.path}", "trainer.max_epochs=2", "resume.reset=[optimizer,scheduler]", "optimizer.lr=1e-5"]
    )
    rates = [row["lr/head"] for row in resumed.logged_rows(before_step=10**9) if "lr/head" in row]
    assert rates[-1] == pytest.approx(1e-5)
    assert rates[0] != rates[-1]


@pytest.mark.parametrize("key", ["hydra.run.dir", "ckpt_path"])
def test_a_run_is_resumed_in_its_own_folder(run, key):
    with pytest.raises(ValueError, match=f"{key}: a run is resumed in its own folder"):
        regraft.resume([f"run={run.path}", f"{key}=elsewhere"])


def test_a_folder_that_lost_its_config_is_still_the_runs():
    run = regraft.train([*without("trainer.max_epochs"), "trainer.max_epochs=1"])
    (run.path / "config.yaml").unlink()
    longer = regraft.resume([f"run={run.path}", "trainer.max_epochs=2"])
    assert longer.path == run.path
    assert run.config["trainer"]["max_epochs"] == 2


def test_other_steps_an_epoch_keep_the_place_in_the_schedule(monkeypatch):
    overrides = [*without("trainer.max_epochs"), "scheduler=cosine", "trainer.max_epochs=4"]
    stopped = stopped_run(overrides, monkeypatch, ("on_train_epoch_end",), lambda trainer: trainer.current_epoch == 3)
    resumed = regraft.resume([f"run={stopped.path}", "trainer.accumulate_grad_batches=2"])
    saved = content_of(resumed.last_ckpt)["epoch"]
    rates = [row["lr/head"] for row in resumed.logged_rows(before_step=10**9) if "lr/head" in row]
    assert saved == 3
    assert rates[3] == pytest.approx(1e-3 * (1 + math.cos(math.pi * 3 / 4)) / 2, rel=0.05)


def test_what_was_to_start_afresh_still_does_after_a_stop_before_the_first_checkpoint(monkeypatch):
    run = regraft.train([*without("trainer.max_epochs"), "scheduler=constant", "trainer.max_epochs=1"])

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LastCheckpoint, "on_train_start", stop)
        with pytest.raises(KeyboardInterrupt):
            regraft.resume(
                [f"run={run.path}", "trainer.max_epochs=2", "resume.reset=[optimizer,scheduler]", "optimizer.lr=1e-5"]
            )
    resumed = regraft.resume([f"run={run.path}"])
    rates = [row["lr/head"] for row in resumed.logged_rows(before_step=10**9) if "lr/head" in row]
    assert rates == pytest.approx([1e-3, 1e-5])
    assert content_of(resumed.last_ckpt)["hyper_parameters"]["config"]["resume"]["session"] == 2
    longer = regraft.resume([f"run={run.path}", "trainer.max_epochs=3"])
    assert longer.config["resume"] == {"reset": []}
