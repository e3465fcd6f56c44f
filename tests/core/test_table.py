"""Tables for notebooks."""

import sys
from types import SimpleNamespace

import pytest

from regraft.core.table import Table

TABLE = Table({"epoch": [0, 1], "<loss>": [0.123456, None]}, index="epoch")


def test_rows_columns_and_parts():
    assert len(TABLE) == 2
    assert TABLE.columns == ["epoch", "<loss>"]
    assert list(TABLE) == [{"epoch": 0, "<loss>": 0.123456}, {"epoch": 1, "<loss>": None}]
    assert TABLE[-1]["epoch"] == 1
    assert TABLE["epoch"] == [0, 1]
    assert list(TABLE[1:]) == [TABLE[1]]
    assert not list(Table({}))
    with pytest.raises(IndexError):
        TABLE[2]


def test_it_is_shown_as_text_and_as_html():
    assert repr(TABLE).splitlines() == ["epoch  <loss>", "    0  0.1235", "    1        "]
    assert "<th>&lt;loss&gt;</th>" in TABLE._repr_html_()
    assert "... of 30 rows" in repr(Table({"n": range(30)}))
    assert repr(Table({})) == ""


def test_a_data_frame_needs_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match="needs pandas, which isn't installed; install it with pip install"):
        TABLE.to_frame()
    frame = SimpleNamespace(set_index=lambda name: name)
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda columns: frame))
    assert TABLE.to_frame() == "epoch"
    assert Table({"a": [1]}).to_frame() is frame


def test_a_terminal_gets_no_control_characters():
    assert repr(Table({"a\x1b[31m": ["b\nc\x07"]})).splitlines() == ["a\\x1b[31m", "  b c\\x07"]
