import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import fsspec
import pytest

import regraft
from helpers.command_line import imported_by, run_main
from helpers.made_runs import made_run

EVIL = "<script>alert('x')</script>|`*_"


@pytest.fixture
def runs():
    """Three configurations, one of which failed for a reason that no page should run."""
    for seed in (0, 1, 2):
        made_run(f"digits/a{seed}", lr=0.01, seed=seed, acc=0.9, seconds=10)
        made_run(f"digits/b{seed}", lr=0.1, seed=seed, acc=0.6, seconds=20)
    overrides = ["optimizer.lr=1.0", "head.note=evil"]
    made_run("digits/c", lr=1.0, state="failed", reason=EVIL, config={"head": {"note": EVIL}}, overrides=overrides)


class Page(HTMLParser):
    """What a page holds: its tags with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def test_the_table_says_who_won(runs, capsys):
    code, out, err = run_main(["compare"], capsys)
    assert (code, err) == (0, "Comparing 7 runs ...\n")
    rows = [line for line in out.splitlines() if re.match(r"\s+\d ", line)]
    assert ["0.01" in rows[0], "leader" in rows[0], "0.1" in rows[1], "worse (p" in rows[1]] == [True] * 4
    assert f"failed: {EVIL}" in out
    assert re.search(r"Leader by test/acc: optimizer\.lr=0\.01, 0\.\d{4} ± 0\.\d{4} \(n = 3\)\.", out)
    assert "Against it: 1 worse." in out
    assert "paired seeds" in out


def test_a_narrow_terminal_breaks_no_figure(runs, capsys, monkeypatch):
    monkeypatch.setattr("regraft.report.leaderboard.terminal._WIDTH", 60)
    out = run_main(["compare"], capsys)[1]
    assert re.search(
        r"\n  2  optimizer\.lr=0\.1\n     test/acc 0\.\d{4} ± 0\.\d{4} \(n = 3\); test/acc to the leader, points: "
        r"-\d+\.\d\d \[-\d+\.\d\d, -\d+\.\d\d\]; worse \(p [<=] 0\.\d{3}\)\n",
        out,
    )
    assert re.search(r"\n     .*optimizer\.lr=1.*\n     failed\n", out)
    assert f"failed: {EVIL}" in out


def test_csv_has_a_line_a_configuration(runs, capsys):
    rows = list(csv.DictReader(io.StringIO(run_main(["compare", "digits", "format=csv"], capsys)[1])))
    assert [row["rank"] for row in rows] == ["1", "2", ""]
    first, second, failed = rows
    assert (first["optimizer.lr"], first["n"], first["verdict"], first["seconds"]) == ("0.01", "3", "leader", "10.0")
    accs = [
        json.loads(Path(f"outputs/digits/a{seed}/results.json").read_text())["metrics"]["test/acc"] for seed in range(3)
    ]
    assert float(first["test/acc"]) == pytest.approx(sum(accs) / 3)
    assert float(second["difference"]) == pytest.approx(float(second["test/acc"]) - float(first["test/acc"]))
    assert float(second["difference_low"]) < float(second["difference"]) < float(second["difference_high"]) < 0
    assert second["runs"] == "digits/b0 digits/b1 digits/b2"
    assert (failed["head.note"], failed["test/acc"], failed["verdict"]) == (EVIL, "", "")


def test_a_leaderboard_is_copied_to_an_address(runs, capsys):
    files = fsspec.filesystem("memory")
    assert "Wrote memory://boards/digits.html" in run_main(["compare", "output=memory://boards/digits.html"], capsys)[1]
    assert b"<table" in files.cat("/boards/digits.html")
    files.rm("/boards", recursive=True)


def test_csv_has_all_digits_of_a_parameter(capsys):
    for place, lr in enumerate((0.00056753134712, 0.1)):
        made_run(f"digits/{place}", lr=lr)
    assert "0.00056753134712" in run_main(["compare", "format=csv"], capsys)[1]


def test_markdown_keeps_its_columns(runs, capsys):
    lines = run_main(["compare", "format=md"], capsys)[1].splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 5
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {len(re.findall(r"\|", table[1]))}
    assert "<script>" not in "\n".join(lines)


def test_the_page_needs_nothing_else_and_runs_nothing(runs, capsys):
    code, out, _ = run_main(["compare", "output=made/page.html"], capsys)
    assert (code, out) == (0, f"Wrote {Path('made/page.html').resolve()}\n")
    page = Page(Path("made/page.html").read_text(encoding="utf-8"))
    names = [tag for tag, _ in page.tags]
    assert not {"script", "link", "img", "iframe", "object"} & set(names)
    assert not [given for _, given in page.tags if "src" in given or any(key.startswith("on") for key in given)]
    assert not [given for tag, given in page.tags if "href" in given and tag != "a"]
    assert page.text.count(EVIL) >= 2
    assert names.count("svg") == 2
    assert names.count("polyline") == 2
    assert "prefers-color-scheme: dark" in page.text
    assert all("aria-label" in given or "aria-labelledby" in given for tag, given in page.tags if tag == "svg")
    assert [given["tabindex"] for _, given in page.tags if given.get("class") == "scroll whole"] == ["0", "0", "0"]


def test_the_page_links_each_run_and_its_report(runs, capsys):
    Path("outputs/digits/a0/report.html").write_text("")
    run_main(["compare", "output=made/page.html"], capsys)
    page = Page(Path("made/page.html").read_text(encoding="utf-8"))
    links = [given["href"] for tag, given in page.tags if tag == "a"]
    assert links[:3] == ["../outputs/digits/a0/report.html", "../outputs/digits/a0/", "../outputs/digits/a1/"]
    assert all(Path("made", link).exists() for link in links)
    assert f'href="{Path("outputs/digits/a1").resolve().as_uri()}/"' in run_main(["compare", "format=html"], capsys)[1]


def test_the_statistics_stand_below_the_table_of_figures(runs, capsys):
    run_main(["compare", "output=page.html"], capsys)
    figures, _, statistics = Path("page.html").read_text(encoding="utf-8").partition('<h2 id="statistics">')
    assert "p adjusted by Holm" in statistics
    assert "worse (p" in statistics
    assert "worse (p" not in figures
    assert 'data-label="test/acc"' in figures


def test_many_parameters_are_one_column_that_wraps(capsys):
    for place in range(2):
        made_run(f"digits/{place}", config={"head": {f"width{each}": each + place for each in range(8)}})
    run_main(["compare", "output=page.html"], capsys)
    page = Path("page.html").read_text(encoding="utf-8")
    assert ">configuration</th>" in page
    assert '<span class="pair">head.width7=8</span>' in page


@pytest.mark.parametrize("form", ["html", "md", "csv", "table"])
def test_nothing_finished_is_said_so(form, capsys):
    made_run("digits/a", state="stopped", rows=[])
    code, out, _ = run_main(["compare", f"format={form}"], capsys)
    assert code == 0
    said = ",stopped,digits/a\n" if form == "csv" else "No run has finished with val/acc yet."
    assert said in out.replace("\\", "")


def test_a_single_run_is_a_leaderboard_too(capsys):
    made_run("digits/a")
    assert "Leader by test/acc: digits/a" in run_main(["compare", "run=a"], capsys)[1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["metirc=x"], "unknown key 'metirc'. Did you mean 'metric'?"),
        (["format=htm"], "format: unknown format 'htm'. Did you mean 'html'?"),
        (["output=page"], "output: got 'page'; allowed: a name that ends in .csv, .md or .html"),
        (["output="], "output: it has no value"),
        (["format=table", "output=x"], "output: got 'x'"),
        (["-x"], "got '-x'"),
        (["metric=test/ac"], "Did you mean 'test/acc'?"),
        (["nowhere"], "there is no run 'nowhere'"),
        (["output_dir=elsewhere"], "there is no run in"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence, runs, capsys):
    code, _, err = run_main(["compare", *arguments], capsys)
    assert code == 1
    assert sentence in err


def test_whatever_ranks_rows_are_compared_by_accuracy(runs, capsys):
    assert "| test/acc to the leader, points |" in run_main(["compare", "format=md", "metric=val/loss"], capsys)[1]
    assert "| to the leader, points |" in run_main(["compare", "format=md", "digits/c"], capsys)[1]


def test_another_split_to_pick_the_leader_on_is_named_where_there_is_one(capsys):
    for name, acc in (("a", 0.9), ("b", 0.7)):
        made_run(f"digits/{name}", acc=acc, lr=acc, rows=[])
        made_run(f"validated/{name}", acc=acc, lr=acc)
    flattered = "The leader was chosen on the same samples that it is compared on, which favours it"
    assert f"{flattered}.\n" in run_main(["compare", "digits"], capsys)[1]
    out = run_main(["compare", "validated", "metric=test/loss"], capsys)[1]
    assert f"{flattered}; metric=val/loss picks it on others.\n" in out


def test_python_is_given_the_leaderboard_and_the_file(runs, capsys):
    board = regraft.compare([Path("outputs/digits/a0"), "digits/b0", "metric=val/loss", "output=page.html"])
    assert (board.metric, [row.rank for row in board.rows]) == ("val/loss", [1, 2])
    assert Path("page.html").read_text().startswith("<!doctype html>")
    assert len(regraft.compare().rows) == 3
    assert capsys.readouterr() == ("", "")
    assert len(regraft.compare("digits").rows) == 3
    assert regraft.compare("digits", metric="val/loss").metric == "val/loss"
    with pytest.raises(ValueError, match="Did you mean 'metric'"):
        regraft.compare(["metirc=val/acc"])
    with pytest.raises(ValueError, match="format: got 'csv'; nothing is printed here"):
        regraft.compare(["format=csv"])


def test_help_says_how(capsys):
    assert "usage: regraft compare" in run_main(["compare", "--help"], capsys)[1]


def test_it_answers_without_torch(runs):
    assert not imported_by("from regraft.cli.commands.compare import run; run(['format=md'])")


def test_a_key_that_is_given_twice_is_refused(runs, capsys):
    code, _, err = run_main(["compare", "run=digits/a0", "run=digits/b0"], capsys)
    assert (code, err) == (1, "regraft: run: it is given more than once. Give it once.\n")


def test_a_traceback_that_cannot_be_read_ends_nothing(runs, capsys):
    Path("outputs/digits/d/traceback.txt").mkdir(parents=True)
    assert run_main(["compare"], capsys)[0] == 0
