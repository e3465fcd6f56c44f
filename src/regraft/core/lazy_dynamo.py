"""A stand-in for `torch._dynamo` until something is compiled, as importing that takes a quarter of a command's start.

torchvision, timm, transformers, Lightning and torch's optimizers import it, for names that matter to compiled code.
`tests/core/test_lazy_dynamo.py` has a test for each of them.
"""

import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_NAME = "torch._dynamo"


def import_dynamo_lazily() -> None:
    """Has `torch._dynamo` imported when it is first needed; does nothing if it has been. Call it before torch's import.

    Only for a process of our own.
    """
    if _NAME not in sys.modules:
        sys.modules[_NAME] = _StandIn(_NAME)
        sys.meta_path.insert(0, _Submodules())


class _OfPackage(type):
    """Has as instances those of the class of its name, once `torch._dynamo` is imported; until then there are none."""

    def __instancecheck__(cls, instance: Any) -> bool:
        package = sys.modules.get(_NAME)
        return not isinstance(package, _StandIn) and isinstance(instance, getattr(package, cls.__name__, ()))


class _StandIn(ModuleType):
    """Does what `torch._dynamo` does where nothing is compiled; any other of its names imports it."""

    OptimizedModule = _OfPackage("OptimizedModule", (), {})

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []  # so that its submodules are looked for
        self.marked: list[tuple[str, Callable[..., Any]]] = []
        self.allow_in_graph = functools.partial(self._mark, "allow_in_graph")
        self.assume_constant_result = functools.partial(self._mark, "assume_constant_result")

    def _mark(self, mark: str, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Returns a function, which is marked once `torch._dynamo` is imported."""
        self.marked.append((mark, fn))
        return fn

    @staticmethod
    def graph_break(msg: str = "") -> None:
        """Does nothing, as outside of compiled code."""

    def disable(
        self, fn: Callable[..., Any] | None = None, recursive: bool = True, **options: Any
    ) -> Callable[..., Any]:
        """Returns a function, or a decorator of one, that isn't compiled, also once `torch._dynamo` is imported."""
        if fn is None:
            return functools.partial(self.disable, recursive=recursive, **options)
        disabled: Callable[..., Any] | None = None

        @functools.wraps(fn)
        def call(*arguments: Any, **keywords: Any) -> Any:
            nonlocal disabled
            if sys.modules.get(_NAME) is self:
                return fn(*arguments, **keywords)
            disabled = disabled or sys.modules[_NAME].disable(fn, recursive, **options)
            return disabled(*arguments, **keywords)

        return call

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(_imported(), name)


def _imported() -> ModuleType:
    stand_in = sys.modules.get(_NAME)
    if isinstance(stand_in, _StandIn):
        del sys.modules[_NAME]
    module = importlib.import_module(_NAME)
    if isinstance(stand_in, _StandIn):
        for mark, fn in stand_in.marked:
            getattr(module, mark)(fn)
        vars(stand_in).update(vars(module))  # for those that have imported the stand-in under a name of their own
    return module


class _Submodules(MetaPathFinder):
    """Imports the package before one of its submodules, most of which it imports itself."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Returns the spec of a submodule, which may be imported by then."""
        if not fullname.startswith(f"{_NAME}."):
            return None
        sys.meta_path.remove(self)
        _imported()
        imported = sys.modules.get(fullname)
        return importlib.util.find_spec(fullname) if imported is None else ModuleSpec(fullname, _Imported(imported))


class _Imported(Loader):
    """Loads a module that has been imported meanwhile."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Returns the module."""
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        """Gives the module its own spec again."""
        module.__spec__ = self._spec
