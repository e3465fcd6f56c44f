import pytest
import yaml

from helpers.written import written_run
from regraft.sweeps.find import find_sweep, to_resume_sweep
from regraft.sweeps.manifest import COMMAND, MANIFEST


@pytest.fixture
def sweep(tmp_path):
    folder = tmp_path / "outputs" / "digits" / "sweep-2026-1a2b3c"
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text("{}")
    hydra = {
        "overrides": {
            "hydra": ["hydra.mode=MULTIRUN", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
            "task": ["a=1,2", "seed=0"],
        },
        "runtime": {
            "cwd": str(tmp_path),
            "config_sources": [{"path": "/mine", "provider": "command-line"}, {"path": "x", "provider": "main"}],
        },
        "job": {"config_name": "train"},
    }
    (folder / COMMAND).write_text(yaml.safe_dump({"hydra": hydra}))
    return folder


def test_a_sweep_is_found_by_its_path_and_by_a_part_of_its_name(sweep):
    assert find_sweep(str(sweep), "outputs") == sweep
    assert find_sweep("1a2b3c", "outputs") == sweep
    assert find_sweep("nothing", "outputs") is None
    assert find_sweep(str(sweep / "0"), "outputs") is None


@pytest.mark.parametrize("handle", ["last", "best"])
def test_last_and_best_are_runs_whatever_a_sweep_is_called(sweep, handle):
    sweep.rename(sweep.with_name(f"sweep-{handle}"))
    assert find_sweep(handle, "outputs") is None


def test_a_part_of_a_sweeps_name_and_of_a_runs_is_refused(sweep):
    written_run(sweep / "0", [0.1])
    assert to_resume_sweep(["run=digits"]) is not None
    written_run(sweep.with_name("2026-11-25-4d5e6f"), [0.1])
    with pytest.raises(ValueError, match=r"and runs, such as digits/2026-11-25-4d5e6f\. Give more of the name"):
        to_resume_sweep(["run=digits"])
    assert to_resume_sweep([f"run={sweep}"]) is not None


def test_a_resumed_sweep_is_its_command_with_what_is_given_now(sweep):
    command = to_resume_sweep([f"run={sweep}", "seed=3", "sweep.fail_fast=true"])
    assert command.command == "train"
    assert command.arguments == [
        *("--multirun", "--config-dir", "/mine", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "a=1,2"),
        *("seed=3", "sweep.fail_fast=true", f"hydra.sweep.dir='{sweep}'"),
    ]


def test_a_flag_takes_no_other_ones_place(sweep):
    arguments = to_resume_sweep([f"run={sweep}", "-m", "--config-dir", "/other"]).arguments
    assert arguments[:3] == ["--multirun", "--config-dir", "/mine"]
    assert arguments[-4:-1] == ["-m", "--config-dir", "/other"]


def test_a_sweep_goes_on_where_it_was_started(sweep, tmp_path, monkeypatch, caplog):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert to_resume_sweep([f"run={sweep}"]).directory == tmp_path
    text = (sweep / COMMAND).read_text()
    (sweep / COMMAND).write_text(text.replace(f"cwd: {tmp_path}", "cwd: /nowhere/any/more"))
    assert to_resume_sweep([f"run={sweep}"]).directory == tmp_path / "elsewhere"
    assert "/nowhere/any/more, where the sweep was started, is gone; paths are relative to" in caplog.text


def test_a_sweep_is_named_once(sweep):
    with pytest.raises(ValueError, match="run: it is given 2 times"):
        to_resume_sweep([f"run={sweep}", "run=last"])


def test_what_is_no_sweep_is_left_to_others(sweep):
    assert to_resume_sweep(["run=last"]) is None
    assert to_resume_sweep(["seed=3"]) is None


@pytest.mark.parametrize("content", ["[", "hydra: {job: {config_name: x}}", "\0"])
def test_a_sweep_that_lost_its_command_says_so(sweep, content):
    (sweep / COMMAND).write_text(content)
    with pytest.raises(ValueError, match="damaged or missing"):
        to_resume_sweep([f"run={sweep}"])


@pytest.mark.parametrize(
    "override",
    [
        *("trust=[evil]", "head._target_=evil.Head", "head={_target_: evil.Head}", "features.dir=/elsewhere"),
        *("features={dir: /elsewhere}", "++logger.csv.save_dir=a,b", "callbacks.x.name=../../x", "output=x"),
        *("sweep.storage=sqlite:///x.db", "+sweep.space={trust: [a]}", "--experimental-rerun=x", "+a@hydra.job=b"),
        *("hydra.job.env_set.X=y", "hydra.launcher.setup=[x]", "hydra.sweep.subdir=../x", "logger.x.name=${data.root}"),
    ],
)
def test_a_sweeps_file_decides_neither_what_is_trusted_nor_where_files_are_written(sweep, override):
    record = yaml.safe_load((sweep / COMMAND).read_text())
    record["hydra"]["overrides"]["task"] += [override, "output_dir=/elsewhere"]
    (sweep / COMMAND).write_text(yaml.safe_dump(record))
    with pytest.raises(ValueError, match=r"this is given on the command line only\. If you want it, add "):
        to_resume_sweep([f"run={sweep}"])
    if not override.startswith("-") and "@" not in override:
        arguments = to_resume_sweep([f"run={sweep}", override]).arguments
        assert arguments.count(override) == 1
        assert f"output_dir='{sweep.parent.parent}'" in arguments
