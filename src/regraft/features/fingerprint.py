"""The hash of what frozen stages compute: equal hashes mean equal activations for equal images.

Where activations are kept under such a hash doesn't belong here, and nothing about the data.
"""

import hashlib
import inspect
import re
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from types import CellType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.distributions import Distribution

from regraft.core.torch_internals import forward_hooks
from regraft.core.types import InputSpec

# Their code is known by their versions.
_LIBRARIES = ("torch", "torchvision", "timm")
# What every module has: hooks, its tensors and submodules, and whether it is in training mode.
_OWN_ATTRIBUTES = frozenset(vars(nn.Module()))
# timm's note of where weights came from.
_PROVENANCE = frozenset({"pretrained_cfg", "default_cfg"})
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]+")


class UnreadableSourceError(ValueError):
    """What a stage computes can't be told, because its code can't be read."""


def stage_digests(stages: Mapping[str, nn.Module]) -> list[str]:
    """Returns for each stage 32 hex digits over all that its eval-mode output depends on but its input.

    That is every parameter and buffer, by name, dtype, shape and bytes; the structure, the modules' classes and their
    attributes and forward hooks, what `torch.fx` generated; what functions carry (closures, defaults, the object of a
    method); the source files of classes and functions that are not torch's,
    torchvision's or timm's, and the versions of those that are. What such a source file imports isn't followed. Device,
    strides, mode, `requires_grad` and the stages' names don't count.

    Raises:
        ValueError: a class or function whose source can't be read.
    """
    # Hashing releases the interpreter lock.
    with ThreadPoolExecutor() as pool:
        try:
            return list(pool.map(_stage_digest, stages.values()))
        except RecursionError as error:
            raise UnreadableSourceError(
                "an object that a stage holds refers to itself, so that what the stage computes can't be told from "
                "what it computed before; use features.cache=off."
            ) from error


def image_fields(spec: InputSpec, transform: str) -> dict[str, Any]:
    """Returns what a preprocessed image depends on besides its file, in plain types.

    Args:
        spec: mean, std, size and interpolation.
        transform: a description that differs wherever the deterministic transform does.
    """
    return {"input_spec": spec.to_dict(), "transform": transform} | image_libraries()


def image_libraries() -> dict[str, str]:
    """Returns the versions of the libraries that decode and resize."""
    return {name: _version(name) for name in ("torchvision", "pillow")}


@cache
def _version(package: str) -> str:
    """Returns an installed package's version; each look reads files."""
    return version(package)


def source_digest(*modules: ModuleType) -> str:
    """Returns 32 hex digits over the source files of modules."""
    digest = hashlib.blake2b(digest_size=16)
    for module in modules:
        assert module.__file__ is not None, "a module of ours has a file"
        digest.update(Path(module.__file__).read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Stage:
    """What is found while a stage is described.

    Attributes:
        modules: of the stage, each of which is described where it stands.
        code: whatever has source code.
    """

    modules: frozenset[nn.Module]
    code: set[type | FunctionType] = field(default_factory=set)


def _stage_digest(stage: nn.Module) -> str:
    digest = hashlib.blake2b(digest_size=16)
    found = _Stage(frozenset(stage.modules()))
    for line in _structure(stage, found):
        digest.update(line.encode())
        digest.update(b"\n")
    tensors = [*stage.named_parameters(remove_duplicate=False), *stage.named_buffers(remove_duplicate=False)]
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_bytes(tensor))
    for line in _origins(found.code):
        digest.update(line.encode())
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    """Returns the elements' bytes in row-major order, whatever the strides and the device."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _structure(stage: nn.Module, found: _Stage) -> Iterator[str]:
    """Yields the structure of a stage in words."""
    yield _ADDRESS.sub("", repr(stage))
    for name, module in stage.named_modules(remove_duplicate=False):
        found.code.update(type(module).__mro__)
        yield f"{name}: {_qualified(type(module))}"
        for attribute, value in sorted(vars(module).items()):
            if attribute not in _OWN_ATTRIBUTES | _PROVENANCE:
                yield f"{name}.{attribute} = {_described(value, found)}"
        if hooks := forward_hooks(module):
            yield f"{name} calls {_described(hooks, found)}"
        if isinstance(module, fx.GraphModule):
            found.code.update(
                node.target for node in module.graph.nodes if isinstance(node.target, type | FunctionType)
            )
            yield module.code


def _described(value: Any, found: _Stage) -> str:
    """Returns a value in words that are the same in every process, and notes whatever has source code."""
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)} {hashlib.blake2b(_bytes(value)).hexdigest()}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {hashlib.blake2b(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    if isinstance(value, nn.Module):
        return _qualified(type(value)) + ("" if value in found.modules else f" {_stage_digest(value)}")
    if isinstance(value, FunctionType | MethodType | partial):
        return _described_callable(value, found)
    if isinstance(value, type):
        found.code.add(value)
        return _qualified(value)
    if isinstance(value, Mapping):
        return str([(str(key), _described(item, found)) for key, item in value.items()])
    if hasattr(value, "__wrapped__"):  # by lru_cache and the like
        return f"{_qualified(type(value))} of {_described(value.__wrapped__, found)}"
    if isinstance(value, SimpleNamespace | Distribution):
        return f"{_qualified(type(value))} {_described(vars(value), found)}"
    if isinstance(value, list | tuple | deque):
        return str([_described(item, found) for item in value])
    if isinstance(value, set | frozenset):
        return str(sorted(_described(item, found) for item in value))
    if _may_hide(value):
        # What its repr says of it may not be all that it computes with.
        found.code.update(type(value).__mro__)
        return f"{_qualified(type(value))} {_described(_attributes(value), found)}"
    return _ADDRESS.sub("", repr(value))


def _described_callable(value: Any, found: _Stage) -> str:
    """Returns a function in words, with what it carries: its closure and defaults, a method's object, a partial's all.

    What one of a library carries is the library's own, which its version tells.
    """
    if isinstance(value, partial):
        return f"partial {_described([value.func, value.args, value.keywords], found)}"
    if isinstance(value, MethodType):
        return f"{_described(value.__func__, found)} of {_described(value.__self__, found)}"
    found.code.add(value)
    if _package(value) in (*_LIBRARIES, *sys.stdlib_module_names):
        return _qualified(value)
    cells = [_content(cell) for cell in value.__closure__ or ()]
    return f"{_qualified(value)} {_described([value.__defaults__, value.__kwdefaults__, cells], found)}"


def _content(cell: CellType) -> Any:
    """Returns what a closure's variable holds; None of one that has nothing yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _may_hide(value: Any) -> bool:
    """Whether a value is of somebody's own class; what those of torch and the standard library print is all of them."""
    kind = type(value)
    is_empty = not (hasattr(value, "__dict__") or any(hasattr(each, "__slots__") for each in kind.__mro__))
    return not is_empty and _package(kind) not in ("torch", *sys.stdlib_module_names)


def _attributes(value: Any) -> dict[str, Any]:
    """Returns what an object holds, in its slots too."""
    slots = [vars(kind).get("__slots__", ()) for kind in type(value).__mro__]
    names = [name for each in slots for name in ((each,) if isinstance(each, str) else each)]
    held = {name: getattr(value, name) for name in names if name != "__dict__" and hasattr(value, name)}
    return held | getattr(value, "__dict__", {})


def _package(code: type | FunctionType) -> str:
    return (code.__module__ or "").partition(".")[0]


def _qualified(code: type | FunctionType) -> str:
    return f"{code.__module__}.{code.__qualname__}"


def _origins(code: set[type | FunctionType]) -> list[str]:
    """Returns for each package of `code` its version, or for a file of the user's its hash, sorted."""
    origins = {f"torch {torch.__version__}"}
    for item in code:
        module, package = item.__module__ or "", _package(item)
        if package in _LIBRARIES:
            origins.add(f"{package} {sys.modules[package].__version__}")
        elif package not in sys.stdlib_module_names:
            origins.add(f"{module} {hashlib.blake2b(_source(item)).hexdigest()}")
    return sorted(origins)


def _source(code: type | FunctionType) -> bytes:
    """Returns the file in which a class or function is defined; its own lines where there is no file (a notebook)."""
    file = getattr(sys.modules.get(code.__module__), "__file__", None)
    if file is not None:
        return Path(file).read_bytes()
    try:
        return inspect.getsource(code).encode()
    except (OSError, TypeError) as error:
        raise UnreadableSourceError(
            f"the source of {_qualified(code)} can't be read ({error}), so that what it computes can't be told from "
            "what it computed before; define it in a file, or use features.cache=off."
        ) from error
