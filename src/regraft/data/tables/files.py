"""The files that the rows of a table name: below the root folder or beside the table, with or without extension.

A name without a folder may be in any folder below the root, if in no other: archives often come in parts.
"""

import os
import re
import stat
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from regraft.config.quoting import text_of as text_as_override
from regraft.data.findings import readable
from regraft.data.sources.folder_scan import why_closed
from regraft.data.sources.layout import is_of_a_program
from regraft.data.tables.reading import text_of

_MANY_WAYS = re.compile(r"^/|^\.?/|//|(^|/)\.\.?(/|$)|/$")
"""Names that aren't a path below a folder in its shortest form."""
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


_MAX_SEARCHED = 10
"""Names that aren't found, of which it is looked where else they are."""
_MAX_FOLDERS = 1_000
_FORMS: Sequence[Literal["NFC", "NFD"]] = ("NFC", "NFD")


def _is_file(folder: str, name: str) -> bool:
    return os.path.isfile(f"{folder}{os.sep}{name}")  # noqa: PTH113 (a Path a name and folder is most of the time)


def _folders_below(root: str) -> Iterator[tuple[str, list[str]]]:
    """Yields a folder and those below it, without hidden ones, and the names of their files; not all of very many."""
    for number, (folder, below, files) in enumerate(os.walk(root)):
        below[:] = sorted(name for name in below if not is_of_a_program(name))
        yield folder, files
        if number >= _MAX_FOLDERS:
            return


class FileFinder:
    """Finds files by the names in a table.

    Args:
        root: folder that the found paths are relative to, without links or dots in its path.
        folders: where files are searched, in this order.
        trusted: folders that paths may lead to besides.
        extensions: those of the files, in lower case without the dot.
        closed_off: folders directly below the root in which names without a folder aren't searched.

    Attributes:
        found_in: the number of files in each folder below the root that were searched there, relative to it.
        num_in_place: the number of files in `folders`.
    """

    def __init__(
        self,
        root: str,
        folders: Sequence[str],
        trusted: Sequence[str],
        extensions: Collection[str],
        closed_off: Collection[str] = (),
    ) -> None:
        self._root = root
        self._closed_off = closed_off
        self.found_in: Counter[str] = Counter()
        self.num_in_place = 0
        self._prefix = root.rstrip(os.sep) + os.sep
        self._folders = list(dict.fromkeys(folders))
        self._allowed = tuple(each.rstrip(os.sep) + os.sep for each in (*folders, *trusted))
        self._extensions = extensions
        self._stems: dict[str, dict[str, list[str]]] = {}
        self._missing: list[str] = []
        self.closed: dict[str, str] = {}
        """Files that mustn't be opened, such as FIFOs, with the reason."""

    def name_of(self, cells: Sequence[Any]) -> str:
        """Returns the name in the cell."""
        return "" if isinstance(cells[0], dict | bytes) else text_of(cells[0])

    def read(self, cells: Sequence[Any]) -> tuple[str, str]:
        """Returns the path of the file in the cell, as `find` does."""
        if isinstance(cells[0], dict | bytes):
            return "", "embedded"
        name = text_of(cells[0])
        path, fault = self.find(name) if name else ("", "no_path")
        if fault in ("missing", "leaves_root") and len(self._missing) < _MAX_SEARCHED:
            self._missing.append(name)
        return path, fault

    def elsewhere(self) -> str:
        """Returns what to do about names that weren't found, if such files are in another folder; empty otherwise."""
        names = [each.replace("\\", "/").strip("/") for each in self._missing]
        parent = os.path.dirname(self._root)  # noqa: PTH120
        found: Counter[tuple[bool, str]] = Counter()
        for folder in (parent, *(folder for folder, _ in _folders_below(self._root))) if names else ():
            for name in names:
                if _is_file(folder, name):
                    found[True, folder] += 1
                elif folder != parent and _is_file(folder, name.rpartition("/")[2]):
                    found[False, folder] += 1
        if not found:
            return self._called_alike(names)
        (is_whole, folder), _ = max(found.items(), key=lambda item: (item[1], item[0]))
        where = f"data.root={text_as_override(folder)}, where"
        return f"Use {where} they are" if is_whole else f"Write their names alone and use {where} such files are"

    def _called_alike(self, names: Sequence[str]) -> str:
        """Returns what to do if a file's name differs from one that wasn't found in case or extension alone."""
        for folder in self._folders:
            for name in names:
                inner, _, last = name.rpartition("/")
                stems = self._stems_of(f"{folder}{os.sep}{inner}")
                wanted = last.rpartition(".")[0] or last
                alike = next((each for stem, each in stems.items() if stem.casefold() == wanted.casefold()), None)
                if alike:
                    return f"There is {readable(alike[0])} in the place of {readable(last)}: correct the names"
        return ""

    def find(self, name: str) -> tuple[str, str]:
        """Returns the path of a file, relative to the root, and ""; or "" and the kind of fault.

        Backslashes may separate folders, and accents be letters of their own or not, as systems differ in both.
        """
        found, fault = self._find(name)
        if fault != "missing":
            self.num_in_place += bool(found)
            return found, fault
        slashed = name.replace("\\", "/")
        others = [slashed] if name.isascii() else [slashed, *(unicodedata.normalize(form, slashed) for form in _FORMS)]
        for other in dict.fromkeys(others):
            if other != name and (answer := self._find(other))[1] != "missing":
                self.num_in_place += bool(answer[0])
                return answer
        for other in others if "/" not in slashed else ():
            places = self._anywhere.get(other, ())
            if len(places) == 1:
                found, fault = self._at(self._prefix + places[0])
                if found:
                    self.found_in[os.path.dirname(found)] += 1  # noqa: PTH120
                    return found, fault
            if len(places) > 1:
                return "", "several_places"
        return "", "missing"

    @cached_property
    def _anywhere(self) -> dict[str, list[str]]:
        """The paths of the files below the root, relative to it, by name and by name without extension.

        Empty if there are very many folders, because not all are looked at.
        """
        found: dict[str, list[str]] = defaultdict(list)
        closed_off = {f"{self._prefix}{name}" for name in self._closed_off}
        num_folders = 0
        for folder, files in _folders_below(self._root):
            num_folders += 1
            if any(folder == each or folder.startswith(each + os.sep) for each in closed_off):
                continue
            for name in files:
                stem, _, extension = name.rpartition(".")
                if extension.lower() in self._extensions:
                    path = self._relative(f"{folder}{os.sep}{name}")
                    found[name].append(path)
                    found[stem].append(path)
        return {} if num_folders > _MAX_FOLDERS else found

    def _find(self, name: str) -> tuple[str, str]:
        if "://" in name and _URL.match(name):
            return "", "url"
        if "\0" in name:
            return "", "missing"
        is_outside = False
        is_short = _MANY_WAYS.search(name) is None
        for folder in self._folders:
            path = f"{folder}{os.sep}{name}"  # a Path a row takes most of the time
            if not is_short:
                path = os.path.normpath(os.path.join(folder, name))  # noqa: PTH118
            if not path.startswith(self._allowed):
                is_outside = True
                continue
            found, fault = self._at(path)
            if found or fault:
                return found, fault
        return "", "leaves_root" if is_outside else "missing"

    def _at(self, path: str) -> tuple[str, str]:
        try:
            mode = os.stat(path).st_mode  # noqa: PTH116
        except (OSError, ValueError):
            mode = 0
        if not mode or stat.S_ISDIR(mode):
            return self._with_extension(path)
        relative = self._relative(path)
        if not stat.S_ISREG(mode):
            self.closed[relative] = why_closed(Path(path))
        return relative, ""

    def _with_extension(self, path: str) -> tuple[str, str]:
        """Returns the file of a name without its extension."""
        folder, name = os.path.split(path)
        if name.rpartition(".")[2].lower() in self._extensions:
            return "", ""
        if folder not in self._stems:
            self._stems[folder] = self._stems_of(folder)
        found = self._stems[folder].get(name, [])
        if len(found) > 1:
            return "", "several_files"
        return (self._relative(f"{folder}{os.sep}{found[0]}"), "") if found else ("", "")

    def _stems_of(self, folder: str) -> dict[str, list[str]]:
        stems: dict[str, list[str]] = defaultdict(list)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    stem, _, extension = entry.name.rpartition(".")
                    if extension.lower() in self._extensions and entry.is_file():
                        stems[stem].append(entry.name)
        except OSError:
            pass
        return dict(stems)

    def _relative(self, path: str) -> str:
        return path.removeprefix(self._prefix) if path.startswith(self._prefix) else os.path.relpath(path, self._root)
