import json
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from regraft.runs import provenance
from regraft.runs.folder import Run

DATA = {"_target_": "regraft.data.sources.folder.FolderSource", "root": "/photos"}


@pytest.fixture
def run(tmp_path):
    run = Run(tmp_path / "run")
    run.path.mkdir()
    return run


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository of one committed file, as the working directory."""
    folder = tmp_path / "code"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "model.py").write_text("rate = 1\n")
    who = ["-c", "user.name=n", "-c", "user.email=e@x"]
    for words in (["init", "-q", "-b", "trunk"], ["add", "."], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", *words], check=True)
    return folder


def added(run, fingerprint="f" * 64):
    provenance.add_session(run, provenance.new_session(["seed=1"]), DATA, fingerprint, seed=1)
    return provenance.sessions(run)[-1]


def test_a_session_says_where_a_run_comes_from(run, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2-of-the-environment")
    session = added(run)
    assert session["overrides"] == ["seed=1"]
    assert session["data"] == {"name": "folder", "root": "/photos", "fingerprint": "f" * 64}
    assert session["packages"]["torch"] == metadata.version("torch")
    assert {"regraft", "numpy", "hydra-core"} <= set(session["packages"])
    assert "wandb" not in session["packages"]
    assert session["hardware"]["num_cpus"] >= 1
    assert session["hardware"]["memory_gb"] > 0
    assert "python" in " ".join(session["command"])
    assert "git" not in session
    assert "hunter2" not in (run.path / "provenance.json").read_text()


def test_a_continued_run_has_a_session_more(run):
    provenance.end_session(run, added(run), 3.0)
    added(run)
    assert [session["seconds"] for session in provenance.sessions(run)] == [3.0, None]


def test_the_same_command_finds_the_config_that_it_began_with(run, monkeypatch):
    session = provenance.new_session(["seed=1"])
    assert provenance.config_before(run, session) == {}
    run.write_config({"model": {}, "trainer": {"memory_format": "channels_last"}})
    added(run)
    assert provenance.config_before(run, session)["trainer"] == {"memory_format": "channels_last"}
    assert provenance.config_before(run, provenance.new_session(["seed=2"])) == {}
    monkeypatch.setattr(provenance, "_hardware", lambda: {"cpu": "another"})
    assert provenance.config_before(run, session) == {}


def test_a_clean_repository_is_named(run, repository):
    git = added(run)["git"]
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert git == {"commit": head, "branch": "trunk", "is_dirty": False}
    assert not list(run.path.glob("*.patch"))


def test_a_dirty_repository_leaves_a_patch_for_each_session(run, repository):
    (repository / "model.py").write_text("rate = 2\n")
    assert added(run)["git"]["patch"] == "dirty.patch"
    assert added(run)["git"]["patch"] == "dirty-2.patch"
    subprocess.run(["git", "checkout", "-q", "."], check=True)
    subprocess.run(["git", "apply", str(run.path / "dirty.patch")], check=True)
    assert Path("model.py").read_text() == "rate = 2\n"


def test_a_large_patch_is_left_out(run, repository):
    (repository / "model.py").write_text("x = 1\n" * 400_000)
    git = added(run)["git"]
    assert git["is_dirty"]
    assert git["patch"].startswith("left out: ")
    assert not (run.path / "dirty.patch").exists()


def test_a_repository_without_a_commit_says_nothing(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    assert "git" not in added(run)


def test_a_repository_of_another_owner_leaves_the_reason(run, repository, monkeypatch, caplog):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    git = added(run)["git"]
    assert "dubious ownership" in git["left_out"]
    assert "safe.directory" in caplog.text


def test_without_git_nothing_is_said(run, repository, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert "git" not in added(run)


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"sessions": 3}), "{}"])
def test_a_damaged_file_has_no_sessions(run, content):
    (run.path / "provenance.json").write_text(content)
    assert provenance.sessions(run) == []
    added(run)
    assert len(provenance.sessions(run)) == 1


def test_changed_data_is_refused_by_name():
    session = {"reproduces": {"run": "/runs/a", "fingerprint": "a" * 64}}
    provenance.require_same_data(session, DATA, "a" * 64)
    provenance.require_same_data({}, DATA, "b" * 64)
    with pytest.raises(
        ValueError, match=r"folder in /photos has changed: its fingerprint is bbbbbbbbbbbb, .*aaaaaaaaaaaa"
    ):
        provenance.require_same_data(session, DATA, "b" * 64)
