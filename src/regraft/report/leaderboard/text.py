"""The cells and sentences of a leaderboard, and its CSV and Markdown."""

import io
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from regraft.core.text import write_csv
from regraft.evaluation.compare.leaderboard import Leaderboard, LeaderboardRow
from regraft.evaluation.compare.paired import Comparison, Outcome
from regraft.evaluation.compare.parameters import text_of
from regraft.evaluation.compare.statistics import LEVEL, MeanStd

_LARGE = 1e6
"""Absolute value from which a figure is written with a power of ten."""


def headings(board: Leaderboard) -> list[str]:
    """Returns the headings of `cells`."""
    # Whatever the ranking metric, rows are compared sample by sample.
    made = _made(row.comparison for row in board.rows)
    compared = _heading(made[0]) if made else "to the leader, points"
    return [
        *("rank", *board.parameters, *board.metrics, *out_of_fold_headings(board)),
        *("n", "seconds", "trained parameters", compared, "verdict", "state"),
    ]


def out_of_fold_headings(board: Leaderboard) -> list[str]:
    """Returns that of the figure out of fold, as in `acc out of fold`; empty without folds."""
    metrics = dict.fromkeys(row.out_of_fold.metric for row in board.rows if row.out_of_fold is not None)
    return [f"{'/'.join(metrics)} out of fold"] if metrics else []


def cells(board: Leaderboard, row: LeaderboardRow) -> list[str]:
    """Returns the cells of a row as text."""
    found = row.metrics.get(board.metric)
    return [
        "" if row.rank is None else str(row.rank),
        *map(text_of, row.values),
        *(_spread(row.metrics.get(metric)) for metric in board.metrics),
        *([_out_of_fold(row)] if out_of_fold_headings(board) else []),
        "" if found is None else str(found.n),
        "" if row.seconds is None else f"{row.seconds.mean:.1f}",
        "" if row.num_trained is None else f"{row.num_trained.mean:,.0f}",
        "" if row.comparison is None else _points(row.comparison),
        verdict(row),
        row.short_state,
    ]


def verdict(row: LeaderboardRow) -> str:
    """Returns the verdict of the comparison with the leader, with its p value."""
    if row.comparison is None:
        return "leader" if row.rank == 1 else ""
    p = row.comparison.p
    return row.comparison.verdict + ("" if p is None else f" (p {'< 0.001' if p < 0.001 else f'= {p:.3f}'})")


def name_of_row(board: Leaderboard, row: LeaderboardRow) -> str:
    """Returns the name of a configuration: `optimizer.lr=0.01 freezing=lp_ft`, or those of its runs."""
    pairs = zip(board.parameters, map(text_of, row.values), strict=True)
    text = " ".join(f"{name}={value}" for name, value in pairs if value)
    num_others = len(row.entries) - 1
    return text or row.entries[0].name + (f" and {num_others} more" if num_others else "")


def sentences(board: Leaderboard) -> list[str]:
    """Returns sentences on the leader, the comparisons, their method, and the importance of parameters."""
    if not board.rows or board.rows[0].rank is None:
        return [f"No run has finished with {board.metric} yet.", *_repeated(board)]
    leader = board.rows[0]
    found = leader.metrics[board.metric]
    said = [f"Leader by {board.metric}: {name_of_row(board, leader)}, {_spread(found)} (n = {found.n})."]
    comparisons = [row.comparison for row in board.rows if row.comparison is not None]
    if comparisons:
        said += _against(board, comparisons)
    for heading in out_of_fold_headings(board):
        said.append(f"{heading}: on all samples, each predicted by the run that it was held out from.")
    data = {entry.fingerprint for row in board.rows for entry in row.entries if row.rank is not None}
    if len(data - {None}) > 1:
        said.append(f"The runs are of {len(data - {None})} data sets; ranks across data sets mean little.")
    return [*said, *_importance(board), *_repeated(board)]


def reasons(board: Leaderboard) -> list[str]:
    """Returns the reasons of unfinished runs, a line per configuration."""
    return [f"{name_of_row(board, row)}: {row.state}" for row in board.rows if row.state != row.short_state]


def to_csv(board: Leaderboard) -> str:
    """Returns a row per configuration with unrounded numbers; differences are fractions, not points."""
    file = io.StringIO()
    metrics = [name for metric in board.metrics for name in (metric, f"{metric}_std")]
    costs = ["n", "seconds", "num_trained_parameters"]
    of_folds = [heading.replace(" ", "_") for heading in out_of_fold_headings(board)]
    against = ["difference", "difference_low", "difference_high", "p_holm", "verdict", "method"]
    rows: list[list[Any]] = [["rank", *board.parameters, *metrics, *of_folds, *costs, *against, "state", "runs"]]
    for row in board.rows:
        found = row.metrics.get(board.metric)
        figures = [None if cost is None else cost.mean for cost in (row.seconds, row.num_trained)]
        names = " ".join(entry.name for entry in row.entries)
        spreads = [row.metrics.get(metric) for metric in board.metrics]
        pairs = [value for each in spreads for value in ((None, None) if each is None else (each.mean, each.std))]
        rows.append(
            [
                *(row.rank, *(text_of(value, is_exact=True) for value in row.values), *pairs),
                *([None if row.out_of_fold is None else row.out_of_fold.value] if of_folds else []),
                *(0 if found is None else found.n, *figures, *_against_leader(row), row.state, names),
            ]
        )
    write_csv(file, rows)
    return file.getvalue()


def to_markdown(board: Leaderboard) -> str:
    """Returns the leaderboard as a Markdown table with the sentences below."""
    lines = [headings(board), *(cells(board, row) for row in board.rows)]
    first, *rest = [f"| {' | '.join(map(_escaped, line))} |" for line in lines]
    ruler = f"|{'---|' * len(lines[0])}"
    said = [*reasons(board), *sentences(board)]
    return "\n".join([first, ruler, *rest, "", *(f"- {_escaped(sentence)}" for sentence in said), ""])


def _against(board: Leaderboard, comparisons: list[Comparison]) -> list[str]:
    counts = Counter(comparison.outcome for comparison in comparisons)
    said = [f"Against it: {', '.join(f'{counts[outcome]} {outcome}' for outcome in Outcome if counts[outcome])}."]
    made = _made(comparisons)
    if made:
        split = made[0].split
        methods = " or ".join(dict.fromkeys(comparison.method for comparison in made))
        said.append(
            f"How: difference in {split} {made[0].quality[0]} on the same samples; {methods}; {LEVEL:.0%} intervals, "
            f"each by itself; p adjusted by Holm for {len(made)} comparison{'s' if len(made) > 1 else ''}."
        )
        if board.metric.startswith(f"{split}/"):
            flattered = "The leader was chosen on the same samples that it is compared on, which favours it"
            other = f"val/{board.metric.partition('/')[2]}"
            is_elsewhere = split == "test" and other in board.metrics
            said.append(f"{flattered}{f'; metric={other} picks it on others.' if is_elsewhere else '.'}")
    return said


def _made(comparisons: Iterable[Comparison | None]) -> list[Comparison]:
    return [each for each in comparisons if each is not None and each.difference is not None]


def _importance(board: Leaderboard) -> list[str]:
    if isinstance(board.importance, str):
        return [f"Importance of the parameters: {board.importance}"] if board.parameters else []
    listed = ", ".join(f"{name} {share:.0%}" for name, share in board.importance.items())
    how = "permutation importance of a random forest (scikit-learn) on runs held out from it, as shares"
    return [f"Importance of the parameters: {listed}; {how}."]


def _repeated(board: Leaderboard) -> list[str]:
    if not board.num_repeated:
        return []
    runs = "1 run is" if board.num_repeated == 1 else f"{board.num_repeated} runs are"
    return [f"{runs} left out, because a newer one has the same configuration and seed."]


def _against_leader(row: LeaderboardRow) -> list[Any]:
    if row.comparison is None:
        return [None, None, None, None, "leader" if row.rank == 1 else "", ""]
    ends = row.comparison.difference
    difference = [None, None, None] if ends is None else [ends.value, ends.low, ends.high]
    return [*difference, row.comparison.p, row.comparison.verdict, row.comparison.method]


def _out_of_fold(row: LeaderboardRow) -> str:
    return "" if row.out_of_fold is None else f"{row.out_of_fold.value:.4f}"


def _spread(found: MeanStd | None) -> str:
    if found is None:
        return ""
    mean, *std = (
        f"{each:{'.4f' if abs(each) < _LARGE else '.3g'}}" for each in (found.mean, found.std) if each is not None
    )
    return " ± ".join([mean, *std])


def _points(comparison: Comparison) -> str:
    ends, (_, factor) = comparison.difference, comparison.quality
    if ends is None:
        return ""
    digits = 2 if factor > 1 else 4
    value, low, high = (f"{factor * each:+.{digits}f}" for each in (ends.value, ends.low, ends.high))
    return f"{value} [{low}, {high}]"


def _heading(comparison: Comparison) -> str:
    """Returns the heading of differences from the leader."""
    name, factor = comparison.quality
    name = {"accuracy": "acc"}.get(name, name)
    return f"{comparison.split}/{name} to the leader{', points' if factor > 1 else ''}"


def _escaped(text: str) -> str:
    """Returns text escaped for Markdown, in one line."""
    return re.sub(r"([\\`*_\[\]<>#|~&])", r"\\\1", " ".join(text.split()))
