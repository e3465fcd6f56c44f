"""The images of rows whose samples lie in shards."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from regraft.core.errors import ConfigError
from regraft.data.images.file_reading.problems import described
from regraft.data.images.file_reading.read import Read
from regraft.data.shards.table import OpenShards, ShardReader
from regraft.data.sources.checked_files import CheckedFiles, log_skipped, refusal, without_low_bits
from regraft.data.sources.labelled_table import columns_of, labels_of
from regraft.data.sources.layout import SPLITS
from regraft.data.tables.collected import Collected
from regraft.data.tables.reading import Table
from regraft.data.tables.rows import Rows

if TYPE_CHECKING:
    from regraft.data.sources.base import Samples, Splits

_log = logging.getLogger(__name__)


@dataclass
class ShardRows:
    """The images of samples in shards.

    Args:
        in_order: whether rows are numbered by the samples themselves; else by their lines in a table.
        damaged: why shards can't be read as a whole.
        has_value_range: as in `WebDatasetSource`.
    """

    opened: OpenShards
    in_order: bool
    damaged: Mapping[str, str]
    on_error: str
    check: str
    has_value_range: bool
    noun: str = "image"
    are_files: bool = True
    _files: CheckedFiles | None = None

    def __post_init__(self) -> None:
        self._reader = ShardReader(self.opened)

    def readers(self, table: Table) -> dict[str, ShardReader]:
        """Returns what finds the samples of a table's rows, by split."""
        return dict.fromkeys(SPLITS, self._reader)

    @cached_property
    def undecodable(self) -> dict[int, str]:
        """Why images of samples can't be decoded, by the number of the sample."""
        problems = self.opened.facts["problem"]
        ignored = {b"", b"unknown_range"} if self.has_value_range else {b""}
        return {
            number: described(problems[number].decode(), self.opened.details.get(number, ""))
            for number in np.flatnonzero(problems != b"").tolist()
            if problems[number] not in ignored and number not in self.opened.faults
        }

    def numbers_of(self, rows: Rows) -> np.ndarray:
        """Returns the number of each row's sample, (num_rows,), int64."""
        if self.in_order:
            return np.frombuffer(rows.numbers, np.int64) - 1
        return np.array(self._reader.numbers_of(list(rows.inputs)), np.int64)

    def refusals(self, used: np.ndarray) -> list[ConfigError]:
        """Returns the mistakes of images that can't be decoded, or not with a range of values.

        Args:
            used: the numbers of the samples, (num_used,), int64.
        """
        lost = np.intersect1d(used, list(self.undecodable)).tolist()
        found = {self.opened.names[number]: self.undecodable[number] for number in lost}
        errors = []
        if found and self.on_error == "raise":
            errors.append(refusal(Path(self.opened.root), len(used), found, self.check))
        elif found:
            log_skipped(Path(self.opened.root), len(used), found)
        if self.has_value_range:
            paths = [self.opened.names[number] for number in used.tolist()]
            errors += without_low_bits(paths, Read(self.opened.facts[used], {}, np.ones(len(used), bool)))
        return errors

    def samples(self, collected: Collected, names: Sequence[str]) -> tuple[dict[str, "Samples"], Mapping[str, str]]:
        """Returns the images of each split, and why others are left out."""
        import torch

        from regraft.data.shards.samples import Shard, ShardImages

        opened = self.opened
        shards = tuple(
            Shard(index.path, prefix, index.state)
            for index, prefix in zip(opened.indexes, opened.prefixes, strict=True)
        )
        parts: dict[str, Samples] = {}
        skipped = dict(self.damaged)
        paths, used = [], []
        for split, rows in collected.rows.items():
            numbers, kept = self.numbers_of(rows), collected.kept[split]
            lost = np.isin(numbers, list(self.undecodable))
            skipped |= {opened.names[number]: self.undecodable[number] for number in numbers[lost].tolist()}
            kept &= ~lost
            chosen = numbers[kept]
            letters, offsets = rows.inputs.chosen(kept)
            shard_of, starts, sizes = opened.places[chosen].T
            parts[split] = ShardImages(
                root=opened.root,
                names=letters,
                offsets=torch.from_numpy(offsets),
                labels=labels_of(rows, kept, names),
                known_hashes=opened.facts["content_hash"][chosen],
                columns=columns_of(rows, kept),
                shards=shards,
                shard_of=shard_of.astype(np.int32),
                starts=starts,
                sizes=sizes,
            )
            paths += [opened.names[number] for number in chosen.tolist()]
            used.append(chosen)
        facts = opened.facts[np.concatenate(used)]
        read = Read(facts, {}, np.ones(len(facts), bool))
        self._files = CheckedFiles(Path(opened.root), paths, read, {})
        return parts, skipped

    def unlabelled(self, collected: Collected) -> None:
        """Says how many images of test have no labels; they aren't predicted at the end, as their files are shards."""
        if len(collected.unlabelled):
            message = "%s images of test have no labels and are left out; `regraft predict input=SHARD.tar` takes them."
            _log.info(message, f"{len(collected.unlabelled):,}")

    def warnings(self, splits: "Splits") -> list[str]:
        """Returns the sentences of what a check of the images warns of."""
        from regraft.data.images.validation.listed_files import warnings_of_listed

        assert self._files is not None, "samples() comes first"
        return warnings_of_listed(splits, self._files, has_range=self.has_value_range)
