from regraft.report.leaderboard.terminal import _short_names


def test_runs_are_called_by_what_their_folders_do_not_share():
    assert _short_names([["a/s/0", "a/s/1"], ["a/s/2"]]) == {"a/s/0": "0", "a/s/1": "1", "a/s/2": "2"}
    several = _short_names([["/o/x/s1/0", "/o/x/s1/2"], ["/o/x/s2/0", "/o/x/s1/1"]])
    assert list(several.values()) == ["s1/0", "2", "s2/0", "s1/1"]
    assert _short_names([["one"]]) == {"one": "one"}
    assert _short_names([]) == {}
