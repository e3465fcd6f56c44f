"""The members of a tar file: their names, and where their bytes lie, from the headers alone. No torch.

Nothing is extracted, so that absolute names and `..` in them are harmless.
"""

import os
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
"""First bytes of compressed files."""
_UNPACKED_BY = {"gz": "gzip", "tgz": "gzip", "bz2": "bzip2", "tbz2": "bzip2", "xz": "xz", "txz": "xz", "zst": "zstd"}
"""What compresses files with these extensions."""


class Entry(NamedTuple):
    """A regular file in a tar file: its name, the position of its first byte, and its number of bytes."""

    name: str
    start: int
    size: int


@dataclass
class Headers:
    """What the headers of a tar file say.

    Attributes:
        files: up to the first damage.
        others: links, devices and the like, which are ignored.
        damage: why the rest can't be read; empty for a whole file.
    """

    files: list[Entry] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    damage: str = ""


def read_headers(path: Path) -> Headers:
    """Returns the members of a tar file; raises OSError if the file can't be read."""
    with path.open("rb") as file:
        num_bytes = os.fstat(file.fileno()).st_size
        start = file.read(8)
        kind = next((kind for magic, kind in _COMPRESSED.items() if start.startswith(magic)), None)
        if kind is not None:
            return Headers(damage=f"it is compressed with {kind}, so that images can't be read from its middle")
        if not num_bytes:
            return Headers(damage="it has zero bytes")
        file.seek(0)
        try:
            archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 (its file is closed above)
        except (tarfile.TarError, ValueError, OverflowError):
            return Headers(damage="it is not a tar file")
        except RecursionError:  # of thousands of headers about a header
            return Headers(damage="its first header is damaged")
        return _members(archive, num_bytes)


def _members(archive: tarfile.TarFile, num_bytes: int) -> Headers:
    """Returns the members; TarFile's own iteration takes a damaged header for the end of the archive."""
    found = Headers()
    position, last = 0, "its start"
    while not found.damage:
        assert archive.fileobj is not None
        archive.fileobj.seek(position)
        block = archive.fileobj.read(tarfile.BLOCKSIZE)
        if block and not any(block):
            break
        if len(block) < tarfile.BLOCKSIZE:
            found.damage = f"it ends after {last} without an end mark, so that it was probably cut off"
            break
        archive.fileobj.seek(position)
        try:
            member = tarfile.TarInfo.fromtarfile(archive)
        except (tarfile.TarError, ValueError, OverflowError, RecursionError):
            found.damage = f"the header after {last} is damaged"
            break
        if member.size < 0 or archive.offset <= position or member.offset_data + member.size > num_bytes:
            found.damage = f"it is cut off within {member.name}"
            break
        position, last = archive.offset, member.name
        if member.isreg() and not member.issparse():
            found.files.append(Entry(member.name, member.offset_data, member.size))
        elif not member.isdir():
            found.others.append(member.name)
    return found


def is_tar(name: str) -> bool:
    """Whether a file is called a tar file that isn't compressed."""
    return name.lower().endswith(".tar")


def unpacking(name: str) -> str:
    """Returns the command that unpacks a file called a compressed tar file; empty for another name."""
    stem, _, extension = name.lower().rpartition(".")
    tool = _UNPACKED_BY.get(extension, "") if extension.startswith("t") or stem.endswith(".tar") else ""
    return f"{tool} -d" if tool else ""


def are_shards(path: str) -> bool:
    """Whether a path is that of a tar file, there or not, or of a folder with some and no subfolders."""
    place = Path(path).expanduser()
    if not place.is_dir():
        return is_tar(path) or bool(unpacking(path))
    return bool(tars_in(place)) and not any(each.is_dir() for each in place.iterdir())


def tars_in(folder: Path) -> Sequence[Path]:
    """Returns the tar files of a folder, sorted by name."""
    return sorted(path for path in folder.iterdir() if is_tar(path.name) and path.is_file())
