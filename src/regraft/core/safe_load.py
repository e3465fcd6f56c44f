"""Reads files of `torch.save` without running code in them."""

import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from regraft.core.errors import ConfigError


def load_safely(path: Path, harmless: Sequence[Any] = ()) -> Any:
    """Returns what `torch.save` wrote, on the CPU; ValueError if loading it would run code, or it is damaged.

    Args:
        harmless: further classes and functions that loading may call.
    """
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(harmless)):
            # An unusual pickle protocol is no reason to refuse the file.
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConfigError(
            None,
            f"{path} is refused: it is damaged, or holds pickled code that loading would run",
            fix="Load it where you trust it, and save its `state_dict()` alone.",
        ) from error
    except OSError:
        raise
    except Exception as error:  # a damaged or forged file makes torch's reader raise nearly anything
        reason = f"{path} is not a whole file of torch.save ({str(error) or type(error).__name__})"
        raise ConfigError(None, reason, fix="Copy it again.") from error
