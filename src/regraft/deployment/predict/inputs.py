"""Finds the images of `input=`: a file, a folder, a glob, a list of paths. Opens no image and imports no torch."""

import glob
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import cast

from regraft.core.errors import ConfigError, MissingFileError
from regraft.data.findings import counted, readable
from regraft.data.shards.headers import is_tar, read_headers, unpacking
from regraft.data.shards.member import Member, state_of
from regraft.data.sources.folder import EXTENSIONS, IMAGES
from regraft.data.sources.folder_scan import scan_images
from regraft.data.sources.tree import FileKind
from regraft.data.tables.reading import SUFFIXES

STDIN = "-"
_CHUNK_BYTES = 65_536
_MAX_LINE_BYTES = 2**20
_MAX_NAMED = 3
_UTF8_MARK, _UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
_SKIPPED = {
    "other": "{} with another extension",
    "hidden": "{} hidden",
    "special": "{} not a regular file",
    "loop": "{} visited already",
}


@dataclass(frozen=True)
class NamedPath:
    """The path of an image: as given or found, and as it is opened."""

    name: str
    path: Path | Member


@dataclass(frozen=True)
class Inputs:
    """The images to predict.

    Attributes:
        images: their paths; from stdin, as they are read.
        num: how many there are; None if that isn't known before the end.
    """

    images: Iterable[NamedPath]
    num: int | None
    notes: tuple[str, ...] = ()


def find_inputs(text: str) -> Inputs:
    """Returns the images of `input=`.

    Args:
        text: an image file; a folder, searched at any depth; a tar shard; a glob, all of whose files are used; a .txt
            file with a path per line, relative to its own folder; or `-`, for such lines on stdin, relative to the
            current folder.
            A file or folder with this exact name comes first.
    """
    if text == STDIN:
        file = cast(BufferedReader, sys.stdin.buffer)
        return Inputs((_listed(entry, Path()) for entry in _entries(file, "stdin")), None)
    require_there(text)
    path = Path(expanded(text))
    if not os.path.lexists(path):
        return _of_glob(str(path))
    if path.is_dir():
        return _of_folder(path)
    if is_tar(path.name):
        return _inputs(*_of_tars([path]))
    if tool := unpacking(path.name):
        reason = "no image can be read from the middle of a compressed file"
        raise ConfigError("input", reason, got=text, fix=f"Unpack it: {tool} {readable(text)}")
    suffix = path.suffix.lower()
    if suffix in SUFFIXES and suffix != ".txt":
        fix = "Write their paths, one a line, into a file that ends in .txt."
        raise ConfigError("input", "images aren't read from a table", got=text, fix=fix)
    return _of_list(path) if suffix == ".txt" else _inputs([NamedPath(str(path), path)])


def require_there(text: str) -> None:
    """Raises ConfigError unless `input=` is a path that exists, a glob or `-`, whatever a model takes."""
    if text == STDIN:
        return
    if "://" in text:
        raise ConfigError("input", "inputs must be local files", got=text, fix="Download it first.")
    try:
        Path(expanded(text)).lstat()
    except (OSError, ValueError) as error:  # ValueError: a zero byte
        if glob.has_magic(text):
            return
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise ConfigError("input", f"can't read {readable(text)} ({error.strerror})") from error
        fix = (
            "Give a photo, a folder, a tar, a glob, a list.txt, or -; or texts: a table, or a file with a text a line."
        )
        raise MissingFileError("input", f"there is no file or folder {readable(text)}", fix=fix) from error


def expanded(path: str) -> str:
    """Returns a path with `~` expanded, unless there is a file of that exact name."""
    # pathlib's raises if there is no such user, as for ~draft.jpg.
    return path if os.path.lexists(path) else os.path.expanduser(path)  # noqa: PTH111


def _inputs(images: Sequence[NamedPath], notes: Iterable[str] = ()) -> Inputs:
    return Inputs(images, len(images), tuple(notes))


def _of_folder(folder: Path) -> Inputs:
    paths, notes = files_in(folder, IMAGES)
    return _inputs([NamedPath(str(folder / path), folder / path) for path in paths], notes)


def files_in(folder: Path, kind: FileKind) -> tuple[list[str], list[str]]:
    """Returns the paths of the files of a kind in a folder, at any depth, and notes on what is left out."""
    paths, found = scan_images(folder, kind)
    faults = [fault.sentence for fault in found.errors]
    kinds = {"other": f": {found.kinds_of(found.apart['other'])}"}
    apart = [
        f"{wording.format(f'{len(found.apart[kind]):,}')} ({_named(found.apart[kind])}{kinds.get(kind, '')})"
        for kind, wording in _SKIPPED.items()
        if found.apart[kind]
    ]
    if not paths and faults:
        raise ConfigError("input", " ".join(faults))
    if not paths:
        there = f"; it holds {', '.join(apart)}" if apart else ", which is empty"
        extensions = f"{kind.noun.capitalize()} extensions: {', '.join(sorted(kind.extensions))}"
        raise ConfigError("input", f"no {kind.noun} in folder {readable(str(folder))}{there}. {extensions}")
    skipped = [f"Skipped in {readable(str(folder))}: {', '.join(apart)}."] if apart else []
    return paths, [*(f"input: {fault}" for fault in faults), *skipped]


def _of_glob(pattern: str) -> Inputs:
    """Returns the files that a pattern matches, with any extension."""
    files, notes = files_matching(pattern, "jpg")
    tars = [Path(name) for name in files if is_tar(name)]
    if not tars:
        return _inputs([NamedPath(name, Path(name)) for name in files], notes)
    images, of_tars = _of_tars(tars)
    others = [NamedPath(name, Path(name)) for name in files if not is_tar(name)]
    return _inputs([*images, *others], [*of_tars, *notes])


def files_matching(pattern: str, extension: str) -> tuple[list[str], list[str]]:
    """Returns the files that a pattern matches, and notes on what is left out.

    Args:
        extension: of files that may be meant, for a hint.
    """
    found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 (pathlib's takes relative patterns only)
    # pathlib's is_dir raises if a folder may not be read.
    folders = [name for name in found if os.path.isdir(name)]  # noqa: PTH112
    files = [name for name in found if not os.path.isdir(name)]  # noqa: PTH112
    if not found:
        fix = "In a glob, ** stands for folders at any depth."
        raise ConfigError("input", f"nothing matches {readable(pattern)}", fix=fix)
    matched = f"{readable(pattern)} matches {counted(len(folders), 'folder')} ({_named(folders)})"
    fix = f"Give the folder itself, or a glob that ends in /**/*.{extension}."
    if not files:
        raise ConfigError("input", f"{matched} and no file", fix=fix)
    note = f"Skipped: {matched}, which aren't searched. {fix}"
    return files, [note] if folders else []


def _of_tars(paths: Sequence[Path]) -> tuple[list[NamedPath], list[str]]:
    """Returns the images in tar shards, by the name of the shard and their own, and notes on what is left out."""
    images: list[NamedPath] = []
    notes: list[str] = []
    for path in paths:
        shown = readable(str(path))
        if not path.is_file():
            raise ConfigError("input", f"{shown} is not a regular file")
        try:
            headers, state = read_headers(path), state_of(str(path))
        except OSError as error:
            raise ConfigError("input", f"can't read {shown} ({error.strerror})") from error
        members = [Member(str(path), *entry, state) for entry in headers.files if _is_image(entry.name)]
        images += [NamedPath(str(member), member) for member in members]
        if headers.damage and not members:
            raise ConfigError("input", f"no image can be read from {shown}: {headers.damage}")
        if headers.damage:
            notes.append(f"Not all of {shown} can be read: {headers.damage}.")
        others = [name for name in headers.others if _is_image(name)]
        if others:
            notes.append(f"Skipped in {shown}: {len(others):,} not a regular file ({_named(others)}).")
    if not images:
        raise ConfigError("input", f"no image in {_named(list(map(str, paths)))}")
    return images, notes


def _is_image(name: str) -> bool:
    """Whether a member of a tar file is called an image, and isn't hidden."""
    file = name.rpartition("/")[2]
    return file.rpartition(".")[2].lower() in EXTENSIONS and not file.startswith(".")


def _of_list(path: Path) -> Inputs:
    """Returns the images that a file lists."""
    shown = readable(str(path))
    if not path.is_file():
        fix = "Give its lines on stdin, with input=-."
        raise ConfigError("input", f"{shown} is not a regular file", fix=fix)
    try:
        with path.open("rb") as file:
            images = [_listed(entry, path.parent) for entry in _entries(file, str(path))]
    except OSError as error:
        raise ConfigError("input", f"can't read {shown} ({error.strerror})") from error
    if not images:
        raise ConfigError("input", f"{shown} lists no path", allowed="one path per line")
    relative = next((each for each in images if not Path(each.name).is_absolute()), None)
    if relative is not None and not os.path.lexists(path.parent / relative.name) and os.path.lexists(relative.name):
        missing = readable(relative.name)
        raise ConfigError(
            "input",
            f"the paths in {shown} are relative to its own folder, where there is no {missing}; there is one here",
            fix=f"Use input=- < {shlex.quote(shown)} to read them from here.",
        )
    return _inputs(images)


def _listed(entry: bytes, folder: Path) -> NamedPath:
    name = os.fsdecode(entry)
    return NamedPath(name, folder / name)


def _entries(file: BufferedReader, name: str) -> Iterator[bytes]:
    """Yields the paths in a file as they come, one per line, or separated by zero bytes as of `find -print0`."""
    separator, rest = b"", b""
    while chunk := file.read1(_CHUNK_BYTES):
        rest += chunk
        if not separator:
            # The first bytes of a slow writer may contain neither yet.
            ends = [end for end in (b"\0", b"\n") if end in rest]
            if rest.startswith(_UTF16_MARKS):
                raise ConfigError("input", f"{name} is in UTF-16", fix="Save it as UTF-8.")
            if ends:
                separator, rest = ends[0], rest.removeprefix(_UTF8_MARK)
        if separator:
            *whole, rest = rest.split(separator)
            yield from _filled(whole, separator)
        if len(rest) > _MAX_LINE_BYTES:
            raise ConfigError("input", f"{name} is not a list of paths: it has a line of more than a megabyte")
    yield from _filled([rest if separator else rest.removeprefix(_UTF8_MARK)], separator or b"\n")


def _filled(entries: Sequence[bytes], separator: bytes) -> Iterator[bytes]:
    """Yields the entries that aren't empty, without the line ends of Windows."""
    for entry in entries:
        path = entry if separator == b"\0" else entry.removesuffix(b"\r")
        if path.strip():
            yield path


def _named(names: Sequence[str]) -> str:
    return ", ".join(map(readable, names[:_MAX_NAMED])) + (", ..." if len(names) > _MAX_NAMED else "")
