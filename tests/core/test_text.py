import csv
import io
import logging

import pytest
from rich.table import Table
from rich.text import Text

from regraft.core.console import Console
from regraft.core.text import LogFormatter, escaped, say, warnings_shown_once, write_csv, write_csv_of

EVIL = "a\x1b[2J\x07\x9b31m\u202eb\udce9"
BELL = r"\x07"
HARMLESS = r"a\x1b[2J\x07\x9b31m\u202eb\udce9"


@pytest.mark.parametrize("text", ["one\ntwo\tthree", "ünï 文 👩‍🔬", ""])
def test_text_that_controls_nothing_stays(text: str) -> None:
    assert escaped(text) == text


def test_control_characters_are_escaped() -> None:
    assert escaped(EVIL) == HARMLESS
    assert escaped("a\r\nb\rc") == "a\nb\\rc"


def test_what_an_encoding_lacks_is_escaped() -> None:
    assert escaped("🐶 é", "latin-1") == r"\U0001f436 é"


def test_a_warning_that_is_repeated_is_shown_once(tmp_path, caplog):
    log, written = logging.getLogger("regraft"), logging.FileHandler(tmp_path / "log")
    logging.getLogger().addHandler(written)
    try:
        with warnings_shown_once(), caplog.at_level("INFO", "regraft"):
            for text in ("few images", "few images", "many classes"):
                log.info("found %s", text)
                log.warning("found %s", text)
        log.warning("found few images")
    finally:
        logging.getLogger().removeHandler(written)
        written.close()
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warned == ["found few images", "found many classes", "found few images"]
    assert len(caplog.records) == 3 + len(warned)
    assert (tmp_path / "log").read_text().count("found few images") == 5


def test_printed_lines_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    say(EVIL)
    say(EVIL, is_error=True)
    assert capsys.readouterr() == (f"{HARMLESS}\n", f"{HARMLESS}\n")


def test_logged_lines_are_escaped() -> None:
    record = logging.LogRecord("regraft", logging.INFO, "", 0, "class %s", (EVIL,), None)
    assert LogFormatter("%(message)s").format(record) == f"class {HARMLESS}"


def test_tables_show_names_as_they_are_but_for_controls(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("class")
    table.add_row(f"[red]{EVIL}[/nothing] :smile:")
    Console(width=100).print(table)
    table.add_row(Text(EVIL.replace("\x07", "")))  # rich itself leaves out the bell
    Console(width=100).print(table)
    shown = capsys.readouterr().out
    assert f"[red]{HARMLESS}[/nothing] :smile:" in shown
    assert f"│ {HARMLESS.replace(BELL, '')}" in shown


def test_tables_are_shown_where_the_encoding_lacks_their_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stream)
    Console().print("🐶")
    stream.flush()
    assert stream.buffer.getvalue() == b"\\U0001f436\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize("cell", ["=1+1", "+SUM(A1)", "-2+3", "@x", "\t=1", "\n=1", "\uff1d1", "=cmd|' /C calc'!A0"])
def test_no_cell_of_a_csv_begins_a_formula(cell: str) -> None:
    text = io.StringIO()
    write_csv(text, [["name", cell]])
    ((_, written),) = csv.reader(io.StringIO(text.getvalue()))
    assert written == f"'{escaped(cell)}"


@pytest.mark.parametrize("cell", ["-1", "+1.5e3", "a=b", "", -0.5, None])
def test_numbers_and_other_cells_of_a_csv_stay(cell: object) -> None:
    text = io.StringIO()
    write_csv_of(text, [{"a": 1, "b": cell}])
    assert text.getvalue() == f"a,b\n1,{'' if cell is None else cell}\n"


def test_cells_and_headings_of_a_csv_are_escaped() -> None:
    text = io.StringIO()
    write_csv_of(text, [{EVIL: EVIL}])
    assert text.getvalue() == f"{HARMLESS}\n{HARMLESS}\n"
