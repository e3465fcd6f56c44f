"""Leaves out of a library's import other libraries that it imports wherever they are installed, and seldom uses.

torchmetrics imports transformers, scipy.signal and matplotlib, timm the client of the Hugging Face hub, and torch's
counter of operations triton: together they took two fifths of a command's start.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from functools import reduce
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def leave_out(*unneeded: str, importer: str) -> None:
    """Gives the module `importer` stand-ins for modules while it is imported; does nothing if any has been.

    Afterwards, whoever imports them gets them as usual, and so does `importer` once it calls something of theirs. What
    its submodules took from them stays without use, so this is only for a process of our own.
    """
    if not {*unneeded, importer} & sys.modules.keys():
        sys.meta_path.insert(0, _Finder(unneeded, importer))


class _Finder(MetaPathFinder):
    def __init__(self, unneeded: Sequence[str], importer: str) -> None:
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
        is_installed = all(importlib.util.find_spec(name.partition(".")[0]) for name in self._unneeded)
        if spec is not None and spec.loader is not None and is_installed and not {*self._unneeded} & sys.modules.keys():
            spec.loader = _Loader(spec.loader, self._unneeded)
        return spec


class _Loader(Loader):
    def __init__(self, loader: Any, unneeded: Sequence[str]) -> None:
        self._loader = loader
        self._unneeded = unneeded

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Returns what the usual loader makes."""
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """Runs the module as the usual loader does, beside stand-ins."""
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._loader
        stand_ins = {name: _StandIn(name, module, self._unneeded) for name in self._unneeded}
        sys.modules.update(stand_ins)
        try:
            self._loader.exec_module(module)
        finally:
            for name, stand_in in stand_ins.items():
                if sys.modules.get(name) is stand_in:
                    del sys.modules[name]


class _StandIn(ModuleType):
    """Has a placeholder of any name while its importer is imported, then the attributes of the module itself."""

    def __init__(self, name: str, importer: ModuleType, unneeded: Sequence[str]) -> None:
        super().__init__(name)
        self._importer, self._unneeded = importer, unneeded

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if self.is_in_place:
            return _Placeholder(name, (), {"stand_in": self})
        for unneeded in self._unneeded:
            importlib.import_module(unneeded)
        return getattr(sys.modules[self.__name__], name)

    @property
    def is_in_place(self) -> bool:
        """Whether the importer is being imported."""
        return sys.modules.get(self.__name__) is self

    def use_real_ones(self) -> None:
        """Gives the importer what it took from stand-ins."""
        for name, value in [*vars(self._importer).items()]:
            if isinstance(value, _Placeholder):
                setattr(self._importer, name, value.real())


class _Placeholder(type):
    """Stands for an attribute of a module, or one of its own; the real ones take their places when one is used."""

    stand_in: _StandIn

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if cls.stand_in.is_in_place:
            return _Placeholder(f"{cls.__name__}.{name}", (), {"stand_in": cls.stand_in})
        return getattr(cls.real(), name)

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        """Calls the attribute; while the importer is imported, is a decorator that changes nothing."""
        if cls.stand_in.is_in_place:
            return lambda function: function
        cls.stand_in.use_real_ones()
        return cls.real()(*arguments, **options)

    def real(cls) -> Any:
        """Returns the attribute of the module itself."""
        return reduce(getattr, cls.__name__.split("."), cls.stand_in)
