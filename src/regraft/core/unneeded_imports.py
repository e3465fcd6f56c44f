"""Leaves out of a library's import another library that it imports wherever that is installed.

torchmetrics imports transformers for scores of generated texts, which takes a fifth of a command's start.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def leave_out(unneeded: str, importer: str) -> None:
    """Gives `importer` an empty module in the place of `unneeded` while it is imported; does nothing if it has been.

    Afterwards, whoever needs `unneeded` imports it as usual. Only for a process of our own, because what `importer` has
    taken from the empty module stays empty.
    """
    if not {unneeded, importer} & sys.modules.keys():
        sys.meta_path.insert(0, _Finder(unneeded, importer))


class _Finder(MetaPathFinder):
    def __init__(self, unneeded: str, importer: str) -> None:
        self._unneeded = unneeded
        self._importer = importer

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Returns the importer's spec, with a loader that leaves out what isn't needed."""
        if fullname != self._importer:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None and self._unneeded not in sys.modules:
            spec.loader = _Loader(spec.loader, self._unneeded)
        return spec


class _Loader(Loader):
    def __init__(self, loader: Any, unneeded: str) -> None:
        self._loader = loader
        self._unneeded = unneeded

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Returns what the usual loader makes."""
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """Runs the module as the usual loader does, beside an empty one."""
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._loader
        empty = sys.modules[self._unneeded] = _Empty(self._unneeded)
        try:
            self._loader.exec_module(module)
        finally:
            if sys.modules.get(self._unneeded) is empty:
                del sys.modules[self._unneeded]


class _Empty(ModuleType):
    """A module that has a class of any name."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})
