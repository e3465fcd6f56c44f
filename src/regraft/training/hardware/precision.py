"""The precision that a training computes in, beyond Lightning's `precision`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from regraft.config.instantiate import Config
from regraft.core.processor import has_bfloat16

SINGLE_PRECISIONS = ("32-true", "32", 32)
_BFLOAT16_MIXED = ("bf16-mixed", "bf16")


@contextmanager
def matmul_precision(config: Config) -> Iterator[None]:
    """Multiplies float32 matrices in `trainer.matmul_precision` inside the block; null is what torch is set to."""
    before, wanted = torch.get_float32_matmul_precision(), config["trainer"].get("matmul_precision")
    torch.set_float32_matmul_precision(before if wanted is None else wanted)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def is_on_cpu(trainer: Config) -> bool:
    """Whether a trainer config trains on the CPU here."""
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    return trainer["accelerator"] == "cpu" or (trainer["accelerator"] == "auto" and not has_gpu)


def is_autocast_by_stage(trainer: Config) -> bool:
    """Whether it is the backbone that casts, see `Backbone.trains_in_bfloat16`, not Lightning.

    Lightning casts validation, too, and the head, whose logits the loss and probabilities would have in 8 bits.
    """
    return trainer["precision"] in _BFLOAT16_MIXED and is_on_cpu(trainer)


def keeps_float32(trainer: Config) -> bool:
    """Whether what is frozen, the head and evaluation compute in float32, as stored features do."""
    return trainer["precision"] in SINGLE_PRECISIONS or is_autocast_by_stage(trainer)


def lightning_precision(trainer: Config) -> Any:
    """Returns what Lightning's `precision` is for a trainer config."""
    return SINGLE_PRECISIONS[0] if is_autocast_by_stage(trainer) else trainer["precision"]


def emulation_note(config: Config, device: torch.device) -> str | None:
    """Returns a sentence where `trainer.precision` is emulated by the processor, which is slower; else None."""
    precision = str(config["trainer"]["precision"])
    if device.type != "cpu" or not precision.startswith("bf16") or has_bfloat16() is not False:
        return None
    return (
        f"trainer.precision={precision} is slower than 32-true here: this processor has no bfloat16 (avx512_bf16, "
        "amx_bf16) and emulates it."
    )


def bfloat16_note(config: Config, device: torch.device) -> str | None:
    """Returns a sentence where a training in float32 would be faster in bfloat16, as the CPU has it; else None."""
    precision = str(config["trainer"]["precision"])
    if device.type != "cpu" or precision not in SINGLE_PRECISIONS or not has_bfloat16():
        return None
    return "This processor has bfloat16: with trainer.precision=bf16-mixed, a step usually takes a third less time."
