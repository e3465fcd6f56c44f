"""Findings about texts: copies that differ in case or punctuation, length, odd scripts, and traces of conversions."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from regraft.core.content_hash import content_hash
from regraft.data.class_counts import Counts
from regraft.data.duplicates import CheckedSamples, group_finding, has_one, same
from regraft.data.findings import Finding, Item, Severity, Wording, counted
from regraft.data.text.cleaning import COLUMN_SEPARATOR
from regraft.data.text.validation.scripts import script_of

TOKENS_A_WORD = 1.3
"""Of English text in the tokenizers of BERT and its kin."""
LENGTHS = (128, 256, 512)
"""Values of `model.max_length` that are usual."""
MIN_SHARE = 0.01
"""Least share of texts that are too long, for which that is reported."""
_NUM_SHOWN = 100
_MAX_PLACES = 4
_WORD = re.compile(r"[^\W_]+")
_TRACES = {
    "wrong_encoding": re.compile("[\u00c2\u00c3\u00d0][\u0080-\u00bf]|\u00e2[\u20ac\u0080]|\ufffd"),
    "markup": re.compile(r"<(br|p|div|a|b|i|span|li|ul|td|tr)\b[^<>]*/?>|&(amp|lt|gt|quot|nbsp|#\d+);", re.IGNORECASE),
}
_WORDINGS = {
    "class_lacking": Wording(
        "warning",
        "Classes without a text in a split, whose metrics leave them out",
        "Add texts, or move away what isn't a class, such as texts without labels.",
    ),
    "odd_script": Wording(
        "warning",
        "Texts in another script than most are",
        "A model of one language makes little of others: choose a multilingual one, or remove them.",
    ),
    "no_letters": Wording("note", "Texts without letters", "Remove them if they say nothing."),
    "wrong_encoding": Wording(
        "warning",
        "Texts that were read in another encoding than they were written in, as in caf\u00c3\u00a9",
        "Read the original with the right data.encoding.",
    ),
    "markup": Wording(
        "note", "Texts with tags or entities of HTML", "Remove the tags, unless later texts will have tags, too."
    ),
}


@dataclass(frozen=True)
class CheckedTexts(CheckedSamples):
    """Texts to be compared; their names are their places, such as `train 12`.

    Attributes:
        texts: with the columns of each joined.
    """

    noun = "text"

    texts: Sequence[str]

    def item(self, group: np.ndarray, detail: str) -> Item:
        """Returns some texts as an item of a finding: each different one, and where they are."""
        indices = group.tolist()
        shown = tuple(dict.fromkeys(excerpt(self.texts[index]) for index in indices))
        places = ", ".join(self.names[index] for index in indices[:_MAX_PLACES])
        more = f" and {len(indices) - _MAX_PLACES:,} more" if len(indices) > _MAX_PLACES else ""
        is_said = not detail or set(detail.split(" / ")) <= set(self.split_names)  # by the places
        return Item(shown[:_MAX_PLACES], f"{places}{more}" if is_said else f"{places}{more}; {detail}")


def lacking_findings(counts: Counts) -> list[Finding]:
    """Returns the finding of classes that train has and another split lacks."""
    lacking = {
        name: ", ".join(split for split in counts if counts[split][name] == 0)
        for name, num in counts["train"].items()
        if num and not all(counts[split][name] for split in counts)
    }
    items = [Item((name,), splits) for name, splits in lacking.items()]
    return [_WORDINGS["class_lacking"].finding("class_lacking", f"{len(items):,}", items)] if items else []


def excerpt(text: str) -> str:
    """Returns the start of a text in one line."""
    line = " ".join(text.replace(COLUMN_SEPARATOR, " | ").split())
    return line if len(line) <= _NUM_SHOWN else f"{line[: _NUM_SHOWN - 3]}..."


def normalised(text: str) -> str:
    """Returns the words of a text in one case, without punctuation; the text itself if it has no words."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold())) or text


def likeness_findings(samples: CheckedTexts) -> Iterator[Finding]:
    """Yields the findings about texts that differ only in case, spaces and punctuation."""
    hashes = b"".join(content_hash(normalised(text).encode()) for text in samples.texts)
    groups = same(np.frombuffer(hashes, np.uint8).reshape(len(samples.texts), -1))
    groups = [group for group in groups if len(np.unique(samples.content_hashes[group], axis=0)) > 1]
    conflicting = [group for group in groups if not has_one(samples.labels[group])]
    leaking = [group for group in groups if not has_one(samples.splits[group])]
    within = [group for group in groups if has_one(samples.splits[group]) and has_one(samples.labels[group])]
    classes, splits = (samples.class_names, samples.labels), (samples.split_names, samples.splits)
    kinds: tuple[tuple[str, Severity, list[np.ndarray], str], ...] = (
        ("near_conflicting_labels", "warning", conflicting, "whose labels differ. Correct the wrong ones."),
        (
            *("near_duplicates_across_splits", "warning", leaking),
            "in more than one split, so what is measured on one was learnt from the other. Remove them from train.",
        ),
        ("near_duplicates", "note", within, "within a split. Keep one of each, unless they occur as often later."),
    )
    for code, severity, found, what in kinds:
        if found:
            amount = counted(len(found), "group")
            sentence = f"{amount} of texts that are the same but for case, spaces and punctuation, {what}"
            yield group_finding(
                code, severity, sentence, samples, found, *(classes if found is conflicting else splits)
            )


def length_findings(samples: CheckedTexts) -> Iterator[Finding]:
    """Yields the finding about texts that models with usual lengths would cut off."""
    num_words = np.array([len(text.split()) for text in samples.texts])
    shares = {length: float((num_words * TOKENS_A_WORD > length).mean()) for length in LENGTHS}
    shown = [f"{100 * share:.0f} % more than {length}" for length, share in shares.items() if share >= MIN_SHARE]
    if shown:
        longest = int(num_words.max())
        sentence = (
            f"Long texts are cut off at model.max_length: at about {TOKENS_A_WORD} tokens a word, {', '.join(shown)} "
            f"tokens; the longest has {longest:,} words. Choose it by what a class shows in, which may be the start."
        )
        order = num_words.argsort(kind="stable")[::-1]
        long = order[: int((num_words * TOKENS_A_WORD > LENGTHS[0]).sum())].tolist()
        items = (samples.item(np.array([index]), f"{num_words[index]:,} words") for index in long)
        yield Finding("long_texts", "warning" if shares[LENGTHS[-1]] >= MIN_SHARE else "note", sentence, tuple(items))


def script_findings(samples: CheckedTexts) -> Iterator[Finding]:
    """Yields the findings about texts in another script than most, and without letters."""
    scripts = list(map(script_of, samples.texts))
    counts = Counter(filter(None, scripts))
    most = max(sorted(counts), key=counts.__getitem__) if counts else ""
    others = {index: script for index, script in enumerate(scripts) if script not in ("", most)}
    yield from _found("odd_script", samples, others)
    yield from _found("no_letters", samples, {index: "" for index, script in enumerate(scripts) if not script})


def trace_findings(samples: CheckedTexts) -> Iterator[Finding]:
    """Yields the findings about traces of wrong encodings and of markup."""
    for code, pattern in _TRACES.items():
        found = ((index, pattern.search(text)) for index, text in enumerate(samples.texts))
        yield from _found(code, samples, {index: match[0] for index, match in found if match})


def _found(code: str, samples: CheckedTexts, details: Mapping[int, str]) -> Iterator[Finding]:
    """Yields the finding about some texts, given by their indices, unless there are none."""
    if details:
        items = [samples.item(np.array([index]), detail) for index, detail in details.items()]
        yield _WORDINGS[code].finding(code, f"{len(items):,}", items)
