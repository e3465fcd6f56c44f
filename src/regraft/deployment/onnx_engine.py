"""ONNX Runtime in place of torch: the network is exported once, and the file is kept in the user's cache folder."""

import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from regraft import __version__
from regraft.core.atomic import write_atomically
from regraft.core.content_hash import code_hash, content_hash
from regraft.core.errors import ConfigError
from regraft.core.memory import is_out_of_memory
from regraft.core.paths import cache_dir
from regraft.deployment.classifier import Classifier
from regraft.deployment.export import onnx
from regraft.deployment.export.program import Runner
from regraft.deployment.export.verify import compare, require_equal
from regraft.features.fingerprint import UnreadableSourceError, stage_fingerprints

log = logging.getLogger(__name__)

_MOST_KEPT = 16
"""Exported networks in the cache folder."""
_PACKAGES = ("onnx", "onnx_ir", "onnxscript", "onnxruntime", "numpy")
_MODULES = ("image_program", "onnx", "onnx_lstm", "program", "signature", "text_program")
_CODE = tuple(f"deployment/export/{name}.py" for name in _MODULES)


@dataclass(frozen=True, eq=False)
class OnnxEngine:
    """Computes logits with ONNX Runtime, on as many threads as torch, each of which takes a part of the batch.

    Several threads in one batch took a third more CPU time for each input (EfficientNet-Lite0, two cores), as they wait
    for each other in each layer.

    Attributes:
        run: maps a batch as the network takes it to logits, (batch, num_classes), float32, on the thread that calls it.
        path: the file that it was made from; None if that isn't kept.
    """

    run: Runner
    path: Path | None

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="onnx")

    def __call__(self, batch: Tensor) -> Tensor:
        """Returns the logits of a batch on the CPU; raises MemoryError if there is no memory for it."""
        try:
            return torch.cat([*self._threads.map(self.run, batch.chunk(torch.get_num_threads()))])
        except Exception as error:  # ONNX Runtime's errors are neither MemoryError nor RuntimeError
            if is_out_of_memory(error):
                raise MemoryError(str(error)) from error
            raise

    def __str__(self) -> str:
        place = "a network exported for this process" if self.path is None else str(self.path)
        return f"ONNX Runtime {version('onnxruntime')}, {place}"


def with_onnx(model: Classifier, tell: Callable[[str], None] = lambda step: None) -> Classifier:
    """Returns a model whose logits ONNX Runtime computes; they are torch's up to rounding, which is checked once.

    The exported network is kept in the user's cache folder, not in the run's, which may be somebody else's. Its name
    has the hash of the weights, temperature, code and versions that it was made from, and that of its content.

    Args:
        model: on the CPU.
        tell: called with the name of each step that may take long.

    Raises:
        ConfigError: the network can't be exported, or its logits differ from the model's.
    """
    signature = model.reader.signature(preprocessing=False)
    try:
        key = _key(model)
    except UnreadableSourceError:
        log.warning("engine=onnx: the exported network isn't kept, as the source of its code can't be read.")
        key = None
    path, content = (None, b"") if key is None else _kept(key)
    try:
        if path is not None:
            run = onnx.runner(content, signature, 1)
        else:
            tell("Exporting the network to ONNX")
            content = onnx.to_bytes(model, {}, signature)
            tell("Comparing its logits with the model's")
            run = onnx.runner(content, signature, 1)
            found = compare(model, run, model.reader.samples().generated(), preprocessing=False)
            if found.model.isfinite().all():  # a prediction of weights that have diverged says so
                require_equal(found)
            path = None if key is None else _keep(key, content)
    except ConfigError as error:
        raise ConfigError("engine", error.reason, got="onnx", fix="Use engine=torch.") from error
    return replace(model, engine=OnnxEngine(run, path))


def _key(model: Classifier) -> str:
    """Returns a hash of everything that the exported network depends on."""
    (fingerprint,) = stage_fingerprints({"network": model.network})
    versions = [__version__, torch.__version__, *map(version, _PACKAGES)]
    fields = [fingerprint, model.input_spec.to_dict(), model.task.name, model.temperature, versions, code_hash(*_CODE)]
    return content_hash(json.dumps(fields).encode()).hex()


def _name(key: str, content: bytes) -> str:
    return f"{key}-{content_hash(content).hex()}.onnx"


def _kept(key: str) -> tuple[Path | None, bytes]:
    """Returns the file of a key that is whole, and its content; None if there is none."""
    for path in cache_dir("onnx").glob(f"{key}-*.onnx"):
        try:
            content = path.read_bytes()
            if path.name == _name(key, content):
                path.touch()  # what wasn't used for longest is removed first
                return path, content
        except OSError:
            continue
    return None, b""


def _keep(key: str, content: bytes) -> Path | None:
    """Writes a file, removes those that weren't used for longest, and returns its path; None if it can't be written."""
    folder = cache_dir("onnx")
    path = folder / _name(key, content)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
        for old in sorted(folder.glob("*.onnx"), key=lambda each: each.stat().st_mtime)[:-_MOST_KEPT]:
            old.unlink(missing_ok=True)
    except OSError as error:
        log.warning("engine=onnx: the exported network can't be kept in %s (%s).", folder, error.strerror)
        return None
    return path
