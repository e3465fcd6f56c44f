"""The state dict in a checkpoint of other software, and its names as those of a module.

Checkpoints hold the weights under a key beside the optimizer and more, and wrappers (DataParallel, Lightning,
torch.compile, self-supervised methods) put prefixes before their names.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

# Averaged weights first, which timm prefers too; of self-distillation the teacher is the average.
_USUAL = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema", "teacher", "target_encoder"),
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights", "params"),
    *("backbone", "encoder", "student"),
)
_DEPTH = 3


def find_state_dicts(content: Any) -> dict[str, dict[str, Tensor]]:
    """Returns the state dicts in what a file holds, the usual choice first, by their keys: `state_dict`, `ema.model`.

    A file that is a plain state dict gives that alone, by the key "".
    """
    found = dict(_nested(content, "", _DEPTH))

    def rank(key: str) -> int:
        first = key.partition(".")[0]
        return _USUAL.index(first) if first in _USUAL else len(_USUAL)

    return {key: found[key] for key in sorted(found, key=rank)}


def is_usual(key: str) -> bool:
    """Whether a state dict's key is one of those under which checkpoints hold their weights."""
    return key.partition(".")[0] in _USUAL


def _nested(content: Any, path: str, depth: int) -> Iterable[tuple[str, dict[str, Tensor]]]:
    if not isinstance(content, Mapping) or not content or depth == 0:
        return
    inner = [
        found
        for key, value in content.items()
        if not str(key).startswith(("optim", "sched", "lr_sched", "scaler"))
        for found in _nested(value, f"{path}.{key}".strip("."), depth - 1)
    ]
    yield from inner
    if not inner and all(isinstance(value, Tensor) for value in content.values()):
        yield path, {str(key): value for key, value in content.items()}


def common_prefix(names: Iterable[str], own: Iterable[str]) -> str:
    """Returns the prefix without which most of the names are own ones, such as `module.`; "" if they are already.

    A prefix counts if at least half of the own names follow it.
    """
    known = set(own)
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        counts.update(
            name[: len(name) - len(rest)] for start in range(len(parts)) if (rest := ".".join(parts[start:])) in known
        )
    # Of equals the shortest, and then the first in the file.
    best = max(counts, key=lambda prefix: (counts[prefix], -len(prefix)), default="")
    return best if 2 * counts[best] >= len(known) else ""
