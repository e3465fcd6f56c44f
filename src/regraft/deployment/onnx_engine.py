"""ONNX Runtime in place of torch: the network is exported once, and the file is kept beside its checkpoint."""

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
from regraft.deployment.classifier import Classifier
from regraft.deployment.export import onnx
from regraft.deployment.export.program import Runner
from regraft.deployment.export.verify import compare, require_equal
from regraft.features.fingerprint import UnreadableSourceError, stage_fingerprints

log = logging.getLogger(__name__)

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

    The exported network is kept as `best.ckpt.onnx` beside `best.ckpt`, and read as long as it is whole and was made
    from the same weights, temperature and code with the same versions; its key and hash are in `best.ckpt.onnx.json`.

    Args:
        model: on the CPU.
        tell: called with the name of each step that may take long.

    Raises:
        ConfigError: the network can't be exported, or its logits differ from the model's.
    """
    path, signature = Path(f"{model.checkpoint}.onnx"), model.reader.signature(preprocessing=False)
    try:
        key = _key(model)
    except UnreadableSourceError:
        log.warning("engine=onnx: the exported network isn't kept, as the source of its code can't be read.")
        key = None
    content = _kept(path, key) if key is not None else None
    is_kept = content is not None
    try:
        if content is not None:
            run = onnx.runner(content, signature, 1)
        else:
            tell("Exporting the network to ONNX")
            content = onnx.to_bytes(model, {}, signature)
            tell("Comparing its logits with the model's")
            run = onnx.runner(content, signature, 1)
            require_equal(compare(model, run, model.reader.samples().generated(), preprocessing=False))
            is_kept = key is not None and _keep(path, key, content)
    except ConfigError as error:
        raise ConfigError("engine", error.reason, got="onnx", fix="Use engine=torch.") from error
    return replace(model, engine=OnnxEngine(run, path if is_kept else None))


def _key(model: Classifier) -> str:
    """Returns a hash of everything that the exported network depends on."""
    (fingerprint,) = stage_fingerprints({"network": model.network})
    versions = [__version__, torch.__version__, *map(version, _PACKAGES)]
    fields = [fingerprint, model.input_spec.to_dict(), model.task.name, model.temperature, versions, code_hash(*_CODE)]
    return content_hash(json.dumps(fields).encode()).hex()


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _kept(path: Path, key: str) -> bytes | None:
    """Returns the file's content if it is whole and of this key."""
    try:
        record, content = json.loads(_record(path).read_bytes()), path.read_bytes()
    except (OSError, ValueError):
        return None
    return content if record == {"key": key, "hash": content_hash(content).hex()} else None


def _keep(path: Path, key: str, content: bytes) -> bool:
    """Writes the file, then its record, which doesn't match another file; returns whether that was possible."""
    try:
        write_atomically(path, content)
        record = {"key": key, "hash": content_hash(content).hex()}
        write_atomically(_record(path), json.dumps(record).encode())
    except OSError as error:
        log.warning("engine=onnx: the exported network can't be kept as %s (%s).", path, error.strerror)
        return False
    return True
