"""The folder of a store entry: names of its files, its lock, and its removal. No torch."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from regraft.core.atomic import remove_leftovers
from regraft.features.share import WHOLE, Share

META = "meta.json"
SEGMENT_SUFFIX = ".safetensors"
_SEGMENT = re.compile(rf"[0-9a-f]{{32}}-(\d+){re.escape(SEGMENT_SUFFIX)}")
_SHARE = re.compile(r"\.share-([1-9]\d*)-([1-9]\d*)\.lock")
_WRITTEN = "another process is writing it"


def segments(entry_folder: Path) -> dict[Path, int]:
    """Returns the sorted segment files in the folder of an entry, with their numbers of inputs from their names."""
    matches = {path: _SEGMENT.fullmatch(path.name) for path in sorted(entry_folder.glob(f"*{SEGMENT_SUFFIX}"))}
    return {path: int(match[1]) for path, match in matches.items() if match and path.is_file()}


@contextmanager
def lock(
    entry_folder: Path, on_wait: Callable[[], None], share: Share = WHOLE, prepare: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Keeps other processes from writing a share of an entry; the kernel releases the lock when its holder dies.

    The folder may not exist yet.

    Args:
        on_wait: called once if another process holds the lock of a share with some of the same inputs, before waiting.
        prepare: called before anything else is done with the lock, while no other process begins to write.
    """
    entry_folder.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        while True:
            with _acquired(_lock_of(entry_folder), on_wait) as whole:
                other = _held_share(entry_folder, share)
                if other is None:
                    prepare()
                    # For a share, the lock of the whole is only held until that of the share is.
                    held = whole if share.is_whole else FileLock(_share_path(entry_folder, share))
                    stack.enter_context(held.acquire())
                    break
            on_wait()
            on_wait = _nothing
            with other.acquire():
                pass
        yield


@contextmanager
def try_lock(entry_folder: Path) -> Iterator[str]:
    """Yields an empty string if it got the lock of an entry, otherwise the reason; never waits."""
    with ExitStack() as stack:
        reason = ""
        try:
            stack.enter_context(_lock_of(entry_folder).acquire(timeout=0))
            reason = _WRITTEN if _held_share(entry_folder, WHOLE) else ""
        except Timeout:  # is an OSError, too
            reason = _WRITTEN
        except OSError as error:
            reason = error.strerror or str(error)
        yield reason


def _nothing() -> None:
    """Does nothing, where a process has been told before that it waits."""


@contextmanager
def _acquired(lock: FileLock, on_wait: Callable[[], None]) -> Iterator[FileLock]:
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        on_wait()
        held = lock.acquire()
    with held:
        yield lock


def _held_share(entry_folder: Path, share: Share) -> FileLock | None:
    """Returns the lock of another share with some of the same inputs that a process holds, None if there is none.

    Removes the files of locks that nobody holds. Call it with the lock of the whole entry held.
    """
    for path in entry_folder.parent.glob(f"{entry_folder.name}.share-*.lock"):
        match = _SHARE.fullmatch(path.name, len(entry_folder.name))
        # Parts of a share may be more than may be typed.
        if match is None or not share.overlaps(Share(int(match[1]) - 1, int(match[2]))):
            continue
        lock = FileLock(path)
        try:
            with lock.acquire(timeout=0):
                path.unlink(missing_ok=True)
        except Timeout:
            return lock
    return None


def _share_path(entry_folder: Path, share: Share) -> str:
    return f"{entry_folder}.share-{share.index + 1}-{share.count}.lock"


def remove_content(entry_folder: Path) -> None:
    """Removes the store's files from the folder of an entry; call it with the lock held.

    The description is removed last: a kill in between leaves a smaller entry, not a broken one.
    """
    for path in segments(entry_folder):
        path.unlink(missing_ok=True)
    remove_leftovers(entry_folder)
    (entry_folder / META).unlink(missing_ok=True)


def _lock_of(entry_folder: Path) -> FileLock:
    # Beside the folder, so that an eviction doesn't remove the file while others wait for the lock.
    return FileLock(f"{entry_folder}.lock")
