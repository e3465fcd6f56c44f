import os
from pathlib import Path

import pytest

from regraft.core.paths import cache_dir


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REGRAFT_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_dir("features") == Path("/home/me/.cache/regraft/features")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_dir("features") == Path("/caches/regraft/features")
    monkeypatch.setenv("REGRAFT_CACHE", "~/mine")
    assert cache_dir("features") == Path("/home/me/mine/features")


def test_without_a_home_folder_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_uid: int) -> None:
        raise KeyError("uid not found")

    for name in ("REGRAFT_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert os.path.expanduser("~") == "~"  # noqa: PTH111
    with pytest.raises(ValueError, match=r"REGRAFT_CACHE: there is no home folder .* Set REGRAFT_CACHE=FOLDER"):
        cache_dir("features")
