"""Which processes of a group see what one of them writes on a disk."""

import time
import uuid
from pathlib import Path

from regraft.core.atomic import write_atomically
from regraft.training.fit.group import Group

_SECONDS_TO_SEE = 10.0
"""How late a file may be seen that another node has written, on a network's disk."""
_TOKEN = ".group"


def seen_by(group: Group, name: str, folder: Path) -> list[bool]:
    """Returns by rank whether a file that the first process writes into a folder is there for each process.

    Every process calls it, with the same name.
    """
    file = folder / _TOKEN
    if not group.is_first:
        token = group.take(f"{name}/token")
        return group.gather(name, token is not None and _is_seen(file, token))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        token = uuid.uuid4().hex
        write_atomically(file, token.encode())
    except OSError:  # nobody sees what isn't written
        token = None
    try:
        group.give(f"{name}/token", token)
        return group.gather(name, token is not None)
    finally:
        if token is not None:
            file.unlink(missing_ok=True)


def sharing(group: Group, name: str, folder: Path) -> list[int]:
    """Returns the ranks that find in a folder what this process writes there: all, or those of its node.

    Every process calls it, with the same name.
    """
    nodes = group.gather(f"{name}/nodes", group.place.node)
    if group.place.num_nodes == 1 or all(seen_by(group, name, folder)):
        return list(range(len(nodes)))
    return [rank for rank, node in enumerate(nodes) if node == group.place.node]


def _is_seen(file: Path, token: str) -> bool:
    """Whether a file that the first process has written is on the disk of this one."""
    ends = time.monotonic() + _SECONDS_TO_SEE
    while not (file.is_file() and file.read_text(encoding="utf-8") == token):
        if time.monotonic() > ends:
            return False
        time.sleep(0.1)
    return True
