"""A config node becomes a call of what its `_target_` names, its mistakes put in the user's terms."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hydra.utils import get_object, instantiate

from regraft.composition import unknown

Config = dict[str, Any]

_EXTRAS = ("wandb", "mlflow")


def factory(node: Mapping[str, Any], section: str, further_keys: Sequence[str] = ()) -> Callable[..., Any]:
    """Returns what the node's `_target_` makes, called with the node's keys and whatever the caller adds.

    Args:
        node: of the config.
        section: where it stands.
        further_keys: that the section may have and this node doesn't, for what is said of an unknown one.

    Raises:
        ValueError: there is no such target, or the node has a key or a type that it doesn't take.
    """
    try:
        target = get_object(node["_target_"])
    except ImportError as error:
        raise ValueError(f"{section}._target_: got {node['_target_']!r}; {error}.") from error
    parameters = inspect.signature(target).parameters
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    for key in node:
        if not takes_any and key not in parameters and not key.startswith("_"):
            allowed = [*further_keys, *(name for name in parameters if name != "self")]
            raise ValueError(f"{section}.{key}: {unknown('key', key, allowed)}")
    return checked_call(instantiate(node, _partial_=True, _convert_="all"), section, {})


def checked_call(make: Callable[..., Any], section: str, options: Mapping[str, Any]) -> Callable[..., Any]:
    """Returns `make` with the options given, its complaints of a type put in the user's terms."""

    def checked(*arguments: Any, **given: Any) -> Any:
        try:
            return make(*arguments, **options, **given)
        except TypeError as error:
            keys = {**getattr(make, "keywords", {}), **options}
            shown = ", ".join(f"{key}={value!r}" for key, value in keys.items())
            raise ValueError(
                f"{section}: got {shown}; one of these has a type that it can't have ({error})."
            ) from error
        except ModuleNotFoundError as error:
            reason = str(error).splitlines()[0]
            extra = next((f" pip install 'regraft[{name}]'." for name in _EXTRAS if name in reason), "")
            raise ValueError(f"{section}: {reason.partition(' HINT')[0]}{extra}") from error

    return checked


def require_numbers(config: Config) -> None:
    """Checks what is computed with before the objects that it belongs to are made."""
    for section, key in (("optimizer", "lr"), ("optimizer", "weight_decay"), ("penalty", "l1"), ("penalty", "l2")):
        value = config[section].get(key, 0.0)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not (is_number and (value > 0 if key == "lr" else value >= 0)):
            least = "above 0" if key == "lr" else "of at least 0"
            raise ValueError(f"{section}.{key}: got {value!r}; it must be a number {least}, such as 1e-3.")
