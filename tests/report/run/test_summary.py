from types import SimpleNamespace
from typing import Any

from regraft.report.run.summary import _chosen


def test_what_was_chosen_is_shown_as_it_is_typed() -> None:
    node = {"path": {"train": "a b.csv", "test": "t.csv"}, "shots": None, "slices": ["x"], "refit": True, "unit": ""}
    typed = ["data.path", "data.slices", "data.refit"]
    record: Any = SimpleNamespace(config={"data": node}, choices={"data": "text_table"}, typed=typed)
    shown = _chosen(record, "data", ("root", "shots"))
    assert shown == "text_table, path={train:'a b.csv',test:t.csv}, slices=[x], refit=true"
