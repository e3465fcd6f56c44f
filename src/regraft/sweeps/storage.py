"""Where a study is stored: a journal in the sweep's folder, or a database; and a journal that is damaged."""

import json
import logging
from pathlib import Path

import optuna
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from regraft.core.atomic import write_atomically

log = logging.getLogger(__name__)

JOURNAL = "study.journal"
_ADDRESS = "study.json"


def address(storage: str | None, folder: Path) -> str:
    """Returns where a study is stored, as any process finds it: a URL, or a journal file's path.

    Args:
        storage: what the user says; None for a file in the sweep's folder.
        folder: the sweep's.

    Raises:
        ValueError: it is half a URL.
    """
    if storage is None:
        return str(folder / JOURNAL)
    if storage.startswith(("sqlite:", "postgresql:", "mysql:")) and "://" not in storage:
        raise ValueError(
            f"sweep.storage: got {storage!r}; allowed: a URL such as sqlite:///study.db or postgresql://host/db, or a "
            f"journal's path."
        )
    relative = "sqlite:///"
    if storage.startswith(relative) and not storage.startswith("sqlite:////") and storage != "sqlite:///:memory:":
        return f"{relative}{Path(storage.removeprefix(relative)).resolve()}"
    return storage if "://" in storage else str(Path(storage).expanduser().resolve())


def kept_address(storage: str | None, folder: Path) -> str:
    """Returns `address`, which of a relative path stays what it was when the sweep was started.

    Raises:
        ValueError: the file that says so is damaged.
    """
    kept = folder / _ADDRESS
    if kept.is_file():
        try:
            said, place = json.loads(kept.read_text(encoding="utf-8"))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{kept} is damaged; remove it, and go on from where the sweep was started.") from error
        if said == storage:
            return str(place)
    place = address(storage, folder)
    if storage is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, json.dumps([storage, place]).encode())
    return place


def storage_at(place: str) -> optuna.storages.BaseStorage:
    """Returns the storage at an address.

    Raises:
        ValueError: it is damaged, or there is no such database, or it needs a package that isn't installed.
    """
    # Optuna says what it does at each step; the sweep's own lines say it once.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if "://" not in place:
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        try:
            return optuna.storages.JournalStorage(JournalFileBackend(place))
        except Exception as error:  # of whatever entries it lacks
            raise ValueError(
                f"sweep.storage: {place} can't be read. Move it away, and the study is made anew from the sweep's runs."
            ) from error
    kind = place.partition("://")[0]
    try:
        return optuna.storages.RDBStorage(place)
    except ImportError as error:
        raise ValueError(
            f"sweep.storage: {kind} needs a driver that isn't installed. For PostgreSQL: pip install "
            "'regraft[postgresql]'; for others, the one that SQLAlchemy asks for in their URL."
        ) from error
    except Exception as error:  # of SQLAlchemy, of the database's driver, of Optuna
        reason = " ".join(str(error.__cause__ or error).split())
        raise ValueError(f"sweep.storage: {kind} can't be opened: {reason}") from error


def mend(journal: Path) -> None:
    """Makes a journal readable again that a full disk has left with half a line.

    What follows such a half, on the same line, is whole; Optuna would refuse all that comes after it.
    """
    if not journal.is_file():
        return
    lock = JournalFileSymlinkLock(str(journal))
    lock.acquire()
    try:
        lines = journal.read_bytes().split(b"\n")
        kept = [line for line in map(_whole, lines) if line]
        content = b"".join(line + b"\n" for line in kept)
        if content != b"\n".join(lines):
            log.warning("%s was damaged; what can be read of it is kept: %d entries.", journal, len(kept))
            write_atomically(journal, content)
    finally:
        lock.release()


def _whole(line: bytes) -> bytes:
    """Returns the part of a line that is an entry; empty without one."""
    for part in (line, line[max(line.rfind(b'{"op_code"'), 0) :]):
        try:
            json.loads(part)
        except ValueError:
            continue
        return part
    return b""
