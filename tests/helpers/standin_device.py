"""A device for torch that stands in for a GPU: `standin:0`, in the CPU's memory, but not to be mixed with the CPU.

An operation on tensors of both raises an error, as with a GPU. `register` is for the whole process, so a test that
needs it runs this file in a process of its own.
"""

import json
import sys
from typing import Any

import torch
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils import backend_registration

NAME = "standin"
DEVICE = f"{NAME}:0"


class StandinTensor(Tensor):
    """A tensor on the device; `raw` is the one on the CPU that it stands for."""

    raw: Tensor

    @staticmethod
    def __new__(cls, raw: Tensor) -> "StandinTensor":
        layout = {"strides": raw.stride(), "storage_offset": raw.storage_offset(), "dtype": raw.dtype}
        # Those of inference mode can't be detached outside of it.
        with torch.inference_mode(False):
            made = Tensor._make_wrapper_subclass(cls, raw.shape, device=DEVICE, **layout)
        made.raw = raw
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.raw.__reduce_ex__(protocol)

    def __repr__(self, **_: Any) -> str:
        return f"StandinTensor({self.raw})"


def _call(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func._schema.name
    tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    ours = [tensor for tensor in tensors if isinstance(tensor, StandinTensor)]
    # A scalar of the CPU may meet any tensor; what is copied may, and indices into a tensor of the device.
    others = [tensor for tensor in tensors if not isinstance(tensor, StandinTensor) and tensor.dim()]
    is_indexed = func in (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default)
    may_mix = name in ("aten::copy_", "aten::_copy_from") or (is_indexed and isinstance(args[0], StandinTensor))
    if ours and others and not may_mix:
        shapes = [tuple(tensor.shape) for tensor in others]
        raise RuntimeError(f"{name}: Expected all tensors to be on {DEVICE}, but these are on the CPU: {shapes}")
    goes_to = {leaf.type for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, torch.device)}
    kwargs = {key: value for key, value in kwargs.items() if key != "pin_memory"}
    args, kwargs = pytree.tree_map_only(torch.device, lambda _: torch.device("cpu"), (args, kwargs))
    plain_args, plain_kwargs = pytree.tree_map_only(StandinTensor, lambda tensor: tensor.raw, (args, kwargs))
    result = func(*plain_args, **plain_kwargs)
    if name == "aten::copy_":
        return args[0]
    if goes_to == {"cpu"}:
        return result
    by_raw = {id(tensor.raw): tensor for tensor in ours}
    return pytree.tree_map_only(Tensor, lambda tensor: _wrapped(tensor, by_raw), result)


def _wrapped(tensor: Tensor, by_raw: dict[int, StandinTensor]) -> StandinTensor:
    return by_raw[id(tensor)] if id(tensor) in by_raw else StandinTensor(tensor)


def _tensor(data: Any, *, device: Any = None, **options: Any) -> Tensor:
    """Returns what torch.tensor does, which can't make a tensor of such a device itself."""
    if isinstance(data, list | tuple):  # perhaps of tensors
        data = pytree.tree_map_only(Tensor, Tensor.item, data)
    made = _torch_tensor(data, **options)
    return made if device is None else made.to(device)


_torch_tensor = torch.tensor


def register() -> None:
    """Adds the device to torch, and lets Lightning's trainer use it in the place of the CPU."""
    torch.tensor = _tensor  # type: ignore[assignment]
    StandinTensor.new_tensor = lambda like, data, **options: _tensor(  # type: ignore[assignment, method-assign]
        data, device=like.device, **{"dtype": like.dtype} | options
    )
    backend_registration._setup_privateuseone_for_python_backend(NAME)
    library = torch.library.Library("_", "IMPL")
    library.fallback(lambda func, *args, **kwargs: _call(func, args, kwargs), "PrivateUse1")
    register.library = library  # type: ignore[attr-defined]  # it ends with the object
    SingleDeviceStrategy.root_device = property(lambda strategy: torch.device(DEVICE), lambda strategy, device: None)  # type: ignore[assignment, method-assign]
    CPUAccelerator.setup_device = lambda accelerator, device: None  # type: ignore[assignment, method-assign]


def require_refusal() -> None:
    """Raises an error if tensors of both devices can be mixed."""
    layer = torch.nn.Linear(2, 1).to(DEVICE)
    layer(torch.ones(1, 2, device=DEVICE)).sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.device.type == NAME
    try:
        layer(torch.ones(1, 2))
    except RuntimeError:
        return
    raise AssertionError("a tensor of the CPU went through a layer on the device")


def run(commands: list[list[str]]) -> None:
    """Runs commands of Regraft one after the other; exits with the first code that isn't 0."""
    from regraft.cli.main import main

    for arguments in commands:
        try:
            main(arguments)
        except SystemExit as ended:
            if ended.code:
                print(f"regraft {' '.join(arguments)} ended with {ended.code}", file=sys.stderr)
                raise


if __name__ == "__main__":
    register()
    require_refusal()
    run(json.loads(sys.argv[1]))
