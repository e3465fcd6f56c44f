"""The hash of what frozen stages compute: equal hashes mean equal activations for equal images.

Where activations are kept under such a hash doesn't belong here, and nothing about the data.
"""

import hashlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from regraft.contracts import InputSpec

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
    attributes, what `torch.fx` generated; the source files of classes and functions that are not torch's,
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


def _stage_digest(stage: nn.Module) -> str:
    digest = hashlib.blake2b(digest_size=16)
    code: set[type | FunctionType] = set()
    for line in _structure(stage, code):
        digest.update(line.encode())
        digest.update(b"\n")
    tensors = [*stage.named_parameters(remove_duplicate=False), *stage.named_buffers(remove_duplicate=False)]
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_bytes(tensor))
    for line in _origins(code):
        digest.update(line.encode())
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    """Returns the elements' bytes in row-major order, whatever the strides and the device."""
    return tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data


def _structure(stage: nn.Module, code: set[type | FunctionType]) -> Iterator[str]:
    """Yields the structure of a stage in words, and adds to `code` whatever has source code."""
    yield _ADDRESS.sub("", repr(stage))
    for name, module in stage.named_modules(remove_duplicate=False):
        code.update(type(module).__mro__)
        yield f"{name}: {_qualified(type(module))}"
        for attribute, value in sorted(vars(module).items()):
            if attribute not in _OWN_ATTRIBUTES | _PROVENANCE:
                yield f"{name}.{attribute} = {_described(value, code)}"
        if isinstance(module, fx.GraphModule):
            code.update(node.target for node in module.graph.nodes if isinstance(node.target, type | FunctionType))
            yield module.code


def _described(value: Any, code: set[type | FunctionType]) -> str:
    """Returns a value in words that are the same in every process, and adds to `code` whatever has source code."""
    if isinstance(value, Tensor):
        return f"{value.dtype} {tuple(value.shape)} {hashlib.blake2b(_bytes(value)).hexdigest()}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {hashlib.blake2b(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    if isinstance(value, type | FunctionType):
        code.add(value)
        return _qualified(value)
    if isinstance(value, Mapping):
        return str([(str(key), _described(item, code)) for key, item in value.items()])
    if isinstance(value, list | tuple):
        return str([_described(item, code) for item in value])
    if isinstance(value, set | frozenset):
        return str(sorted(_described(item, code) for item in value))
    if _may_hide(value):
        # What its repr says of it may not be all that it computes with.
        code.update(type(value).__mro__)
        return f"{_qualified(type(value))} {_described(vars(value), code)}"
    return _ADDRESS.sub("", repr(value))


def _may_hide(value: Any) -> bool:
    """Whether a value is an object of somebody's own class; torch and the standard library show all that matters."""
    package = type(value).__module__.partition(".")[0]
    return hasattr(value, "__dict__") and package != "torch" and package not in sys.stdlib_module_names


def _qualified(code: type | FunctionType) -> str:
    return f"{code.__module__}.{code.__qualname__}"


def _origins(code: set[type | FunctionType]) -> list[str]:
    """Returns for each package of `code` its version, or for a file of the user's its hash, sorted."""
    origins = {f"torch {torch.__version__}"}
    for item in code:
        module = item.__module__ or ""
        package = module.partition(".")[0]
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
