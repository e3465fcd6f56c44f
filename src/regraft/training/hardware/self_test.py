"""Checks of a device: what it computes is right, and how fast; each is quick and needs no data."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from regraft.core.errors import ConfigError
from regraft.core.memory import memory_bytes
from regraft.core.processor import cpp_compiler
from regraft.models.backbones.efficientnet_lite import efficientnet_lite0

Status = Literal["ok", "failed", "skipped"]

_MOST_OFF = {torch.float32: 5e-3, torch.bfloat16: 0.2}
"""Greatest error of each type that is called right: float32 with TF32 is off by about 1e-3 of the largest value."""
_SECONDS = 3.0
_BATCH_SIZES = {"cuda": 128, "mps": 64}


class SkippedError(Exception):
    """A check doesn't apply here."""


@dataclass(frozen=True)
class CheckResult:
    """The result of a check; `text` is what it found, or why it failed or was skipped."""

    name: str
    status: Status
    text: str
    seconds: float


def checked(name: str, check: Callable[[], str]) -> CheckResult:
    """Returns the result of a check, which returns what it found, or raises any error."""
    started = time.perf_counter()
    status: Status = "ok"
    try:
        text = check()
    except SkippedError as reason:
        status, text = "skipped", str(reason)
    except Exception as error:  # a broken driver raises anything
        status, text = "failed", (str(error).strip() or type(error).__name__).splitlines()[0]
    return CheckResult(name, status, text, time.perf_counter() - started)


def require_gpu() -> None:
    """Raises ConfigError if torch has no GPU here, with the reason that is known."""
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        return
    built_for = torch.version.cuda or torch.version.hip
    if built_for:
        reason = (
            f"it is built for {'CUDA' if torch.version.cuda else 'ROCm'} {built_for}, and finds no device or driver"
        )
        fix = "See whether nvidia-smi or rocm-smi shows the GPU, and whether CUDA_VISIBLE_DEVICES hides it."
    else:
        reason, fix = "it is built for the CPU alone", "Install torch for the GPU as https://pytorch.org says."
    raise ConfigError("doctor gpu", f"torch {torch.__version__} has no GPU here: {reason}", fix=fix)


def checks_of(device: torch.device) -> Mapping[str, Callable[[], str]]:
    """Returns the checks of a device, by name; each returns what it found."""
    return {
        "device": lambda: device_text(device),
        "precision": lambda: _precision(device),
        "compile": lambda: _compiled(device),
        "throughput": lambda: _throughput(device),
    }


def num_devices(device: torch.device) -> int:
    """Returns how many devices of a kind there are; two processes can share a CPU."""
    return torch.cuda.device_count() if device.type == "cuda" else 2 if device.type == "cpu" else 1


def device_text(device: torch.device) -> str:
    """Returns what a device is, and torch's version."""
    versions = {"CUDA": torch.version.cuda, "ROCm": torch.version.hip}
    built_for = next((f", {name} {version}" for name, version in versions.items() if version), "")
    if device.type == "cuda":
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        what = "; ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    else:
        what = f"{device.type}, {torch.get_num_threads()} threads"
    return f"{what}, {memory_bytes(device) / 1e9:.1f} GB; torch {torch.__version__}{built_for}"


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )


def _output_and_gradient(device: torch.device, dtype: torch.dtype) -> Tensor:
    network = _network().to(device, dtype)
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    output = network(images.to(device, dtype))
    output.square().sum().backward()
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    return torch.cat([each.detach().cpu().double().flatten() for each in (output, gradients[0], gradients[-1])])


def _precision(device: torch.device) -> str:
    exact = _output_and_gradient(torch.device("cpu"), torch.float64)
    found = []
    for dtype, most in _MOST_OFF.items():
        off = float((_output_and_gradient(device, dtype) - exact).abs().max() / exact.abs().max())
        name = str(dtype).removeprefix("torch.")
        if not off <= most:  # also if it is NaN
            raise ValueError(f"outputs and gradients in {name} are off by {off:.2g} of the largest, more than {most:g}")
        found.append(f"{name} is off by {off:.1g}")
    return f"outputs and gradients against float64 on the CPU, of the largest: {', '.join(found)}"


def _compiled(device: torch.device) -> str:
    if device.type not in ("cuda", "cpu"):
        raise SkippedError(f"torch.compile isn't used on {device.type}")
    if cpp_compiler() is None:
        raise SkippedError("there is no C++ compiler")
    network = _network().to(device).eval()
    images = torch.randn(16, 3, 32, 32, device=device)
    with torch.no_grad():
        expected = network(images)
        started = time.perf_counter()
        off = float((torch.compile(network)(images) - expected).abs().max() / expected.abs().max())
    if not off <= _MOST_OFF[torch.float32]:
        raise ValueError(f"a compiled network is off by {off:.2g} of the largest output")
    return f"a small network compiles in {time.perf_counter() - started:.1f} s"


def _throughput(device: torch.device) -> str:
    rates = []
    for dtype in (torch.float32, torch.bfloat16):
        network = efficientnet_lite0(weights=None).to(device, dtype).eval()
        images = torch.randn(_BATCH_SIZES.get(device.type, 8), 3, 224, 224).to(device, dtype)
        with torch.no_grad():
            network(images).float().cpu()  # the first one is slower
            num_batches, started = 0, time.perf_counter()
            while time.perf_counter() - started < _SECONDS:
                network(images).float().cpu()  # which waits for the device
                num_batches += 1
        rate = num_batches * len(images) / (time.perf_counter() - started)
        rates.append(f"{rate:,.0f} images/s in {str(dtype).removeprefix('torch.')}")
    return f"EfficientNet-Lite0 at 224 px computes {' and '.join(rates)}"
