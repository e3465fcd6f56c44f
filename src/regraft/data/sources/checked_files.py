"""Image files of a source, decoded once to check them: which can't be used, and why. No torch."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regraft.core.errors import ConfigError, ConfigErrors, listed
from regraft.data.findings import readable
from regraft.data.images.file_reading.problems import described
from regraft.data.images.file_reading.read import Read, logged_progress, read_all

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CheckedFiles:
    """Files that were decoded.

    Attributes:
        paths: relative to the root, those of all splits.
        skipped: why files are left out, by path.
    """

    root: Path
    paths: list[str]
    read: Read
    skipped: Mapping[str, str]

    def hashes(self, start: int, stop: int) -> np.ndarray:
        """Returns the hashes of the content of some files, (num_files, HASH_BYTES); zeros for those not read now."""
        fresh, found = self.read.is_fresh[start:stop], self.read.facts["content_hash"][start:stop]
        return np.where(fresh[:, None], found, 0)


def checked_files(
    root: Path, paths: Sequence[str], closed: Mapping[str, str], on_error: str, check: str, *, has_range: bool
) -> CheckedFiles:
    """Returns the files, those that can't be decoded marked as skipped.

    Args:
        closed: reasons for those that mustn't be opened, by path.
        check: the command that shows all that can't be decoded.
        has_range: whether a `value_range` is given.

    Raises:
        ConfigErrors: some can't be decoded and aren't to be skipped, or have more bits than are read.
    """
    read = read_all(root, paths, closed, logged_progress, has_range=has_range)
    errors = without_low_bits(paths, read) if has_range else []
    skipped = undecodable(paths, read)
    if skipped and on_error == "raise":
        errors.append(refusal(root, len(paths), skipped, check))
    if errors:
        raise ConfigErrors(errors)
    if skipped:
        log_skipped(root, len(paths), skipped)
    return CheckedFiles(root, list(paths), read, skipped)


def undecodable(paths: Sequence[str], read: Read) -> dict[str, str]:
    """Returns why files can't be decoded, by their paths."""
    return {
        paths[number]: described(read.facts["problem"][number].decode(), read.details.get(number, ""))
        for number in np.flatnonzero(read.facts["problem"] != b"").tolist()
    }


def refusal(root: Path, num: int, found: Mapping[str, str], check: str) -> ConfigError:
    """Returns the mistake of files that can't be decoded; see `checked_files`."""
    them, shows = ("it", "more") if len(found) == 1 else ("them", "them all")
    fix = f"Replace or remove {them}, or leave {them} out with data.on_error=skip; `{check}` shows {shows}."
    return ConfigError("data.root", f"{_count(root, num, found)} can't be decoded: {reasons(found)}", fix=fix)


def log_skipped(root: Path, num: int, found: Mapping[str, str]) -> None:
    """Warns of files that are left out."""
    message = "%s can't be decoded and %s left out (data.on_error=skip): %s."
    _log.warning(message, _count(root, num, found), "is" if len(found) == 1 else "are", reasons(found))


def reasons(found: Mapping[str, str]) -> str:
    """Returns files and why they can't be decoded, the first ones."""
    return listed((f"{readable(path)}: {reason}" for path, reason in found.items()), "; ")


def _count(root: Path, num: int, found: Mapping[str, str]) -> str:
    return f"{len(found):,} of {num:,} images in {root}"


def without_low_bits(paths: Sequence[str], read: Read) -> list[ConfigError]:
    """Returns the mistake of 16-bit colours, of which only the upper 8 bits are read."""
    facts = read.facts
    is_gray = np.isin(facts["mode"], [b"I"]) | (facts["mode"].astype("S4") == b"I;16")
    deep = np.flatnonzero((facts["bits"] == 16) & ~is_gray & (facts["problem"] == b"")).tolist()
    if not deep:
        return []
    reason = (
        f"only the upper 8 of 16 bits are read of colours, so that it can't be applied to {len(deep):,} images: "
        f"{listed(readable(paths[number]) for number in deep)}"
    )
    return [ConfigError("data.value_range", reason, fix="Save them with 8 bits a channel, or in gray.")]
