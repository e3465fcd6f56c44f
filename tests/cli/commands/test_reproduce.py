import json

import pytest
import torch

import regraft
from helpers.command_line import run_main
from helpers.small import without
from regraft.runs import provenance
from regraft.runs.folder import Run


def photos(folder, shift=0):
    """Returns a folder of two classes of twelve images."""
    from PIL import Image

    for index, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for shade in range(12):
            Image.new("RGB", (20, 20), (10 * shade + index + shift, 0, 0)).save(folder / name / f"{shade}.png")
    return folder


def test_a_run_is_found_again_beside_it(run, capsys):
    code, out, err = run_main(["reproduce", "run=last"], capsys)
    assert (code, err) == (0, "")
    (again,) = [Run(path) for path in run.path.parent.iterdir() if path != run.path]
    weights = [torch.load(each.last_ckpt, weights_only=True)["state_dict"] for each in (run, again)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    assert again.metrics == run.metrics
    table = out[out.index("Reproduced") :]
    assert table.count("yes") == len(run.metrics)
    (session,) = provenance.sessions(again)
    assert session["reproduces"]["run"] == str(run.path)


def test_other_metrics_are_shown_and_fail_the_command(run, capsys):
    results = run.results
    results["metrics"]["test/acc"] += 1e-9
    run.write_results(results)
    code, out, err = run_main(["reproduce", f"run={run.path}"], capsys)
    assert code == 1
    assert err.startswith("regraft: reproduce: these metrics of ")
    assert err.endswith("are different now: test/acc.\n")
    assert out.count(" no ") == 1
    (again,) = [Run(path) for path in run.path.parent.iterdir() if path != run.path]
    assert again.state["status"] == "finished"
    assert not (again.path / "traceback.txt").exists()


def test_a_resumed_run_is_trained_in_one_session(run, caplog):
    regraft.resume([f"run={run.path}", "trainer.max_epochs=3"])
    with caplog.at_level("INFO"):
        again = regraft.reproduce([f"run={run.path}"])
    assert "was trained in 2 sessions" in caplog.text
    assert "It was changed when it was resumed, so metrics may differ: trainer.max_epochs=3." in caplog.text
    assert again.results["num_epochs"] == 3
    assert again.config["ckpt_path"] is None


def test_moved_data_is_the_same_and_changed_data_is_refused_by_name(tmp_path):
    options = ["data=folder", f"data.root={photos(tmp_path / 'photos')}", "data.num_workers=0"]
    source = regraft.train([*without("data", "trainer.max_epochs"), "trainer.max_epochs=1", *options])
    moved = (tmp_path / "photos").rename(tmp_path / "moved")
    again = regraft.reproduce([f"run={source.path}", f"data.root={moved}"])
    assert again.metrics == source.metrics
    photos(tmp_path / "photos", shift=100)
    fingerprint = provenance.sessions(source)[0]["data"]["fingerprint"]
    with pytest.raises(
        ValueError, match=rf"data: folder in {tmp_path / 'photos'} has changed.* was {fingerprint[:12]}"
    ):
        regraft.reproduce([f"run={source.path}"])
    # An older run has no provenance; its checkpoint knows.
    (source.path / "provenance.json").unlink()
    with pytest.raises(ValueError, match=rf"has changed.* was {fingerprint[:12]}"):
        regraft.reproduce([f"run={source.path}"])


def test_other_packages_are_warned_of(run, caplog):
    path = run.path / "provenance.json"
    content = json.loads(path.read_text())
    content["sessions"][0]["packages"]["timm"] = "0.0.1"
    content["sessions"][0]["python"] = "3.5.0"
    path.write_text(json.dumps(content))
    regraft.reproduce(["run=last"])
    assert "Packages have changed since, so metrics may differ: Python 3.5.0 -> 3." in caplog.text
    assert "timm 0.0.1 -> " in caplog.text
    assert "torch" not in caplog.text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "run: it has no value yet"),
        (["run=last", "optimizer.lr=1"], "got 'optimizer.lr=1'; everything else is the run's own"),
        (["run=last", "-m"], "got '-m'"),
        (["run=nosuchrun"], "there is no run 'nosuchrun'"),
    ],
)
def test_a_mistake_is_one_sentence(run, arguments, sentence, capsys):
    code, _, err = run_main(["reproduce", *arguments], capsys)
    assert code == 1
    assert sentence in err
    assert err.count("\n") == 1


def test_an_unfinished_run_has_nothing_to_compare_with(run):
    run.write_state(run.state | {"status": "stopped"})
    with pytest.raises(ValueError, match="hasn't finished, so there is nothing to compare with"):
        regraft.reproduce(["run=last"])


def test_a_strangers_config_runs_no_code(run):
    run.write_config(run.config | {"head": {"_target_": "os.system", "command": "touch hacked"}})
    with pytest.raises(ValueError, match=r"names 'os\.system', which isn't Regraft's"):
        regraft.reproduce(["run=last"])
