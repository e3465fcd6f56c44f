"""Exports an ONNX file, optionally with preprocessing and in 8-bit integers; it runs in ONNX Runtime, without torch."""

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regraft.core.errors import ConfigError
from regraft.deployment.classifier import Classifier
from regraft.deployment.export.onnx_lstm import with_onnx_lstms
from regraft.deployment.export.program import LOGITS, PROBABILITIES, Runner, deployed_program
from regraft.deployment.export.signature import Signature

_MAX_BYTES = 2**31 - 1
_ELSE = "Use format=torch_export."
_QUANTISED = ("Conv", "Gemm", "MatMul")


def require_onnx(key: str = "format=onnx") -> None:
    """Checks that the packages of the export are installed; `key` is what asks for them."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(key, f"{error.name} isn't installed", fix="Run pip install 'regraft[onnx]'.") from error


def to_bytes(model: Classifier, metadata: Mapping[str, str], signature: Signature) -> bytes:
    """Returns the content of the file of a model on the CPU; its outputs are `logits` and `probabilities`.

    Its input is `images`: (batch, num_channels, image_size, image_size), float32, normalised; with preprocessing
    (batch, height, width, 3 or 4), uint8, RGB or RGBA, of any size. Of a model of texts its inputs are `input_ids` and
    `attention_mask`, (batch, length), int64.
    """
    import onnx

    program = deployed_program(model, signature, with_onnx_lstms(model.network))
    try:
        with _silenced():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                input_names=list(signature.names),
                output_names=[LOGITS, PROBABILITIES],
            )
            assert exported is not None, "torch returns the program if no path is given"
            proto = exported.model_proto
    except Exception as error:  # an operator that ONNX lacks, or an error of its conversion
        reason = " ".join(str(error.__cause__ or error).split())[:300]
        raise ConfigError("format=onnx", f"this network can't be converted ({reason})", fix=_ELSE) from error
    _name_axes(proto, signature.axes)
    onnx.helper.set_model_props(proto, dict(metadata))
    if proto.ByteSize() > _MAX_BYTES:
        raise ConfigError("format=onnx", "the file would be larger than the 2 GB that ONNX allows", fix=_ELSE)
    return proto.SerializeToString()


def _name_axes(proto: Any, names: Sequence[str]) -> None:
    """Names the axes of any length of a model's input, and of its outputs, which torch numbers."""
    graph = proto.graph
    first = graph.input[0].type.tensor_type.shape.dim
    new = {axis.dim_param: name for axis, name in zip(first, names, strict=False) if axis.dim_param}
    for value in (*graph.input, *graph.output, *graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param in new:
                axis.dim_param = new[axis.dim_param]


def quantised(content: bytes) -> bytes:
    """Returns a file's content with the weights of convolutions and linear layers as 8-bit integers.

    Activations are quantised dynamically, each tensor by its own range.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source = onnx.load_from_string(content)
    weights = {initializer.name for initializer in source.graph.initializer}
    kept = [node.name for node in source.graph.node if node.op_type == "MatMul" and not weights & set(node.input)]
    with tempfile.TemporaryDirectory() as folder, _silenced():
        path = Path(folder, "quantised.onnx")
        quantize_dynamic(
            source,
            path,
            op_types_to_quantize=list(_QUANTISED),
            weight_type=QuantType.QUInt8,  # needed by ONNX Runtime's integer convolution
            nodes_to_exclude=kept,
        )
        return path.read_bytes()


def runner(content: bytes, signature: Signature, num_threads: int = 0) -> Runner:
    """Returns a function that runs a file's content with ONNX Runtime on the CPU.

    Args:
        num_threads: 0 for one on each core.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    options.intra_op_num_threads = num_threads
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # an operator that it lacks; its errors have no common class
        reason = " ".join(str(error).split())[:300]
        raise ConfigError("format=onnx", f"ONNX Runtime can't run this network ({reason})", fix=_ELSE) from error

    def run(batch: Tensor) -> Tensor:
        given = zip(signature.names, signature.arguments(batch), strict=True)
        return torch.from_numpy(session.run([LOGITS], {name: each.numpy() for name, each in given})[0])

    return run


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Silences the converters' messages; errors are raised."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
