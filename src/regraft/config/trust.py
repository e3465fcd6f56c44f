"""What a config may name: parts of Regraft and of its libraries, and what the command line trusts.

A config can come from a stranger, in a checkpoint, a run's folder or a folder of YAML files. A `_target_` in it is a
function that will be called, so it is looked up only if it is known not to run what it is given.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Sweep
from hydra.utils import get_object

from regraft.config.quoting import parsed, readable
from regraft.config.safe_yaml import require_bounded_tree
from regraft.config.shipped import shipped_targets
from regraft.core.errors import ConfigError

# Classes of these modules, if they are of this kind: making one reads no pickle and calls nothing that it is given.
_KINDS = {
    "torch.nn": "torch.nn.Module",
    "torch.optim": "torch.optim.Optimizer",
    "torch.optim.lr_scheduler": "torch.optim.lr_scheduler.LRScheduler",
    "torchvision.models": "torch.nn.Module",
    "torchvision.ops": "torch.nn.Module",
    "torchvision.transforms.v2": "torch.nn.Module",
    "timm.layers": "torch.nn.Module",
    "timm.loss": "torch.nn.Module",
    "timm.optim": "torch.optim.Optimizer",
    "torchmetrics": "torchmetrics.Metric",
    "torchmetrics.classification": "torchmetrics.Metric",
    "pytorch_lightning.accelerators": "pytorch_lightning.accelerators.Accelerator",
    "pytorch_lightning.callbacks": "pytorch_lightning.Callback",
    "pytorch_lightning.loggers": "pytorch_lightning.loggers.Logger",
    "pytorch_lightning.profilers": "pytorch_lightning.profilers.Profiler",
    "pytorch_lightning.strategies": "pytorch_lightning.strategies.Strategy",
}
# Where the classes of these modules must have been defined; torchmetrics has others that fetch models of any name.
_HOMES = {"torchmetrics": ("torchmetrics.classification.", "torchmetrics.aggregation")}

# Resolvers that give what the config or the clock says; oc.env isn't one of them, nor is what builds a node from text.
_RESOLVERS = frozenset(
    {
        *("now", "hydra", "python_version"),
        *(
            "regraft.id",
            "regraft.experiment",
            "regraft.groups",
            "regraft.if_closed_form",
            "regraft.if_head_alone",
            "regraft.if_text",
        ),
        "regraft.if_linear",
        *("oc.select", "oc.dict.keys", "oc.dict.values", "oc.deprecated"),
    }
)
COMMAND = "pipe:"
"""How a shard begins that is the output of a command."""
_INTERPOLATION = re.compile(r"\$\{\s*([^:${}]*)([:$]?)")


def named_in(overrides: Sequence[str]) -> list[str]:
    """Returns what a command line trusts: the values of `trust=`, and what is typed out: a `_target_`, a `pipe:`."""
    found: list[Any] = []
    # What has no value is a flag's, such as the folder of --config-dir.
    lines = [line for line in overrides if "=" in line and not line.startswith("-")]
    lines = [line for line in lines if any(word in line for word in ("trust", "_target_", COMMAND))]
    for override in map(parsed, readable(lines)):
        value = override.value()
        if override.key_or_group.rpartition(".")[2] in ("trust", "_target_"):
            is_sweep = isinstance(value, Sweep)
            found += override.sweep_string_iterator() if is_sweep else value if isinstance(value, list) else [value]
        elif override.key_or_group.endswith("data.urls") and not isinstance(value, Sweep):
            texts = [text for _, text in values(value, "") if isinstance(text, str)]
            found += [each for text in texts for each in text.split("::") if each.startswith(COMMAND)]
        elif not isinstance(value, Sweep):
            found += [part for place, part in values(value, "") if place.rpartition(".")[2] == "_target_"]
    return [name for name in found if isinstance(name, str) and name]


def require_known_targets(node: Any, trust: Sequence[str], source: str | None) -> None:
    """Checks a config, or a part of one, before anything in it is looked up.

    Args:
        node: resolved, plain types.
        trust: modules, classes and functions that may be named besides those that are known.
        source: the file that holds it; None for the composed config.

    Raises:
        ConfigError: a `_target_` isn't known, or an interpolation is left, which could still become one.
    """
    require_bounded_tree(node, source or "config")
    for key, value in values(node, ""):
        place = key if source is None else f"{source}: {key}"
        if isinstance(value, str) and "${" in value:
            raise ConfigError(place, f"it holds {value!r} after everything was resolved; write out its value")
        if key.rpartition(".")[2] == "_target_" and value is not None:
            require_known(value, trust, place)


def require_known(target: Any, trust: Sequence[str], place: str) -> None:
    """Checks one `_target_`, which stands at `place`."""
    if not (
        isinstance(target, str)
        and (target in shipped_targets() or is_trusted(target, trust) or _is_of_a_library(target))
    ):
        raise ConfigError(
            place,
            f"it names {target!r}, which isn't Regraft's, so it could run anything",
            fix=f"If you trust it, add trust=[{target}] to the command.",
        )


def require_known_resolvers(text: str, trust: Sequence[str], place: str) -> None:
    """Checks what a value with interpolations, `${name:...}`, reads from the process.

    Raises:
        ConfigError: a resolver reads the environment, or isn't known, or its name is itself an interpolation.
    """
    for name, end in _INTERPOLATION.findall(text):
        if end == "$" and ":" in text:
            raise ConfigError(place, f"in {text!r} the name of a resolver can't be seen; write it out")
        if end == ":" and name.strip() not in (*_RESOLVERS, *trust):
            why = "reads the environment, and a run keeps its config" if name == "oc.env" else "isn't a known resolver"
            raise ConfigError(
                place,
                f"in {text!r} {name} {why}",
                fix=f"Give the value itself on the command line; if you want it all the same, add trust=[{name}].",
            )


def look_beside(trust: Sequence[str]) -> None:
    """Makes modules in the current folder importable if any is trusted; installed ones come first.

    Otherwise a file there, such as one named like a library's optional dependency, isn't imported.
    """
    if any(not each.startswith("pipe") for each in trust) and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))


def is_trusted(name: str, trust: Sequence[str]) -> bool:
    """Whether a dotted name, or something that it is a part of, is trusted."""
    return any(f"{name}.".startswith(f"{trusted}.") for trusted in trust)


def values(node: Any, place: str) -> list[tuple[str, Any]]:
    """Returns each value of a config that isn't a list or mapping, with its dotted key; a `_target_` always is one."""
    if place.rpartition(".")[2] == "_target_" or not isinstance(node, Mapping | list | tuple):
        return [(place, node)]
    items = node.items() if isinstance(node, Mapping) else enumerate(node)
    return [found for key, value in items for found in values(value, f"{place}.{key}".lstrip("."))]


def _is_of_a_library(target: str) -> bool:
    """Whether a name is a public class that one of the libraries' modules defines, and of an allowed kind.

    A path into a module can lead out again, through what it imports: torch.nn.modules.module.functools.partial.
    """
    module, _, name = target.rpartition(".")
    if module not in _KINDS or not name[:1].isupper():
        return False
    try:
        found, kind = get_object(target), get_object(_KINDS[module])
    except (ImportError, AttributeError):
        return False
    homes = _HOMES.get(module, (module.partition(".")[0] + ".",))
    return isinstance(found, type) and issubclass(found, kind) and found.__module__.startswith(homes)
