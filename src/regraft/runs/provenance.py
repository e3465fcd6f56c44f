"""provenance.json: code, packages, machine, data and command of each session of a run.

A session starts whenever a run is started or resumed. Environment variables are left out, as they hold secrets.
"""

import logging
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from regraft.core.atomic import read_json, write_atomically, write_json
from regraft.core.errors import ConfigError
from regraft.runs.folder import Run

log = logging.getLogger(__name__)

Session = dict[str, Any]

_FILE = "provenance.json"
_MAX_PATCH_BYTES = 1_000_000
_GIT_SECONDS = 2.0
_MAX_UNTRACKED = 100


def new_session(overrides: Sequence[str]) -> Session:
    """Returns the record of a command that starts: its arguments, working directory, code and packages."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": None,
        # As typed; sys.argv has been rewritten for Hydra by now.
        "command": list(sys.orig_argv),
        "overrides": list(overrides),
        "directory": str(Path.cwd()),
        **_git(Path.cwd()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions(),
    }


def add_session(run: Run, session: Session, data: dict[str, Any], fingerprint: str, seed: int) -> None:
    """Adds a session of `new_session` to those of the run, with the machine, the section `data`, and the seed."""
    earlier = sessions(run)
    kept = {"name": name_of_data(data), "root": data.get("root"), "fingerprint": fingerprint}
    session = {**session, "hardware": _hardware(), "data": kept, "seed": seed}
    patch = session.pop("patch", None)
    if patch is not None:
        session["git"] = session["git"] | {"patch": _keep_patch(run, patch, len(earlier) + 1)}
    _write(run, [*earlier, session])


def config_before(run: Run, session: Session) -> dict[str, Any]:
    """Returns the config with which the same command began the run on this machine; empty if it did not.

    A run that was killed before its first checkpoint is started again by its command.
    """
    *_, last = sessions(run) or [{}]
    is_same = last.get("overrides") == session["overrides"] and last.get("hardware") == _hardware()
    return run.readable_config if is_same else {}


def end_session(run: Run, session: Session, seconds: float) -> None:
    """Writes how long a session took, however it ended; does nothing if it was never added."""
    *earlier, last = sessions(run) or [{}]
    if last.get("started") == session["started"] and run.path.is_dir():
        _write(run, [*earlier, last | {"seconds": round(seconds, 3)}])


def seconds_before(run: Run) -> float:
    """Returns the seconds of all sessions of a run but its last; killed ones, whose time isn't known, don't count."""
    earlier = [session.get("seconds") for session in sessions(run)[:-1]]
    return float(sum(seconds for seconds in earlier if isinstance(seconds, int | float)))


def require_same_data(session: Session, data: dict[str, Any], fingerprint: str) -> None:
    """Checks that the data has not changed since the run that this session reproduces, if it does."""
    source = session.get("reproduces")
    if source is not None and source["fingerprint"] != fingerprint:
        place = data.get("path") or data.get("root") or data.get("urls")
        where = f" in {place}" if place else ""
        raise ConfigError(
            "data",
            f"{name_of_data(data)}{where} has changed: its fingerprint is {fingerprint[:12]}, that of "
            f"{source['run']} was {source['fingerprint'][:12]}. Give the run's own data: {key_of_place(data)}.",
        )


def key_of_place(data: Mapping[str, Any]) -> str:
    """Returns the override that says where data lies: its table, or the folder of its files."""
    if data.get("urls"):
        return "data.urls=SHARDS"
    return "data.path=TABLE" if data.get("path") else "data.root=PATH"


def name_of_data(data: dict[str, Any]) -> str:
    """Returns the short name of a data set, such as `folder` for `regraft.data.sources.folder.FolderSource`."""
    return str(data.get("_target_", "data")).rpartition(".")[2].removesuffix("Source").lower()


def sessions(run: Run) -> list[Session]:
    """Returns a run's sessions, the oldest first; none if the file is missing or damaged."""
    found = read_json(run.path / _FILE).get("sessions")
    return [session for session in found if isinstance(session, dict)] if isinstance(found, list) else []


def versions() -> dict[str, str]:
    """Returns the versions of Regraft and of each package that it needs."""
    needed = ["regraft"]
    for requirement in metadata.requires("regraft") or []:
        if "extra ==" not in requirement:
            needed += re.findall(r"^[\w.-]+", requirement)
    found = {}
    for name in needed:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _write(run: Run, found: list[Session]) -> None:
    write_json(run.path / _FILE, {"sessions": found})


def _keep_patch(run: Run, patch: bytes, number: int) -> str:
    """Writes the difference from the commit; returns the file's name, or why there isn't one."""
    if len(patch) > _MAX_PATCH_BYTES:
        size = f"{len(patch):,} bytes, more than {_MAX_PATCH_BYTES:,}"
        log.warning("The difference from the commit isn't stored: %s.", size)
        return f"left out: {size}"
    name = "dirty.patch" if number == 1 else f"dirty-{number}.patch"
    write_atomically(run.path / name, patch)
    return name


def _git(folder: Path) -> dict[str, Any]:
    """Returns commit, branch and the difference of tracked files, or why git refuses; empty without a commit."""
    status = _git_output(folder, "status", "--porcelain=v2", "--branch", "--untracked-files=no")
    if isinstance(status, str):
        log.warning("The commit isn't recorded: %s", status)
        return {"git": {"left_out": status}}
    if status is None:
        return {}
    lines = status.decode(errors="replace").splitlines()
    header = dict(line.removeprefix("# branch.").split(" ", 1) for line in lines if line.startswith("# branch."))
    if header.get("oid", "(initial)") == "(initial)":
        return {}
    is_dirty = any(not line.startswith("#") for line in lines)
    found: dict[str, Any] = {"git": {"commit": header["oid"], "branch": header.get("head"), "is_dirty": is_dirty}}
    others = _git_output(folder, "ls-files", "--others", "--exclude-standard", "-z", "--", "*.py", "*.yaml")
    if isinstance(others, bytes) and others:
        found["git"]["untracked"] = others.decode(errors="replace").rstrip("\0").split("\0")[:_MAX_UNTRACKED]
    if is_dirty:
        patch = _git_output(folder, "diff", "HEAD", "--binary", "--no-ext-diff", "--no-textconv", "--no-color")
        if isinstance(patch, bytes):
            found["patch"] = patch
        else:
            found["git"]["patch"] = f"left out: {patch}"
    return found


def _git_output(folder: Path, *arguments: str) -> bytes | str | None:
    """Returns the output of a git command, or why it fails; None without git and outside of a repository."""
    # Don't take the repository's lock, as somebody may work in it, and don't run a program that its config names.
    options = ["--no-optional-locks", "-c", "core.fsmonitor=false"]
    try:
        result = subprocess.run(
            ["git", *options, *arguments],
            cwd=folder,
            capture_output=True,
            timeout=_GIT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"git didn't answer within {_GIT_SECONDS:g} s"
    except OSError:
        return None
    if result.returncode == 0:
        return result.stdout
    if not any((each / ".git").exists() for each in (folder, *folder.parents)):
        return None
    return " ".join(result.stderr.decode(errors="replace").split()) or f"git ended with {result.returncode}"


def _hardware() -> dict[str, Any]:
    import torch

    from regraft.core.memory import memory_bytes

    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    memory_gb = round(memory_bytes(torch.device("cpu")) / 1e9, 1)
    return {"cpu": _cpu_name(), "num_cpus": os.cpu_count(), "gpus": gpus, "memory_gb": memory_gb}


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return named[1] if named else platform.processor() or platform.machine()
