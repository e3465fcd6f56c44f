"""What the words of a command may be, of the verbs that take nothing but keys."""

from collections.abc import Sequence

import yaml

from regraft.config.compose import conf_dir, unknown
from regraft.config.quoting import key_of


def keys_of(verb: str) -> list[str]:
    """Returns the keys that a verb's YAML has, its groups among them, and `run`."""
    content = yaml.safe_load((conf_dir() / f"{verb}.yaml").read_text(encoding="utf-8"))
    groups = [group for entry in content["defaults"] if isinstance(entry, dict) for group in entry]
    inner = [f"{key}.{name}" for key, value in content.items() if isinstance(value, dict) for name in value]
    plain = [key for key, value in content.items() if not isinstance(value, dict)]
    return ["run", *(key for key in [*plain, *inner, *groups] if key not in ("defaults", "hydra"))]


def require_keys(verb: str, arguments: Sequence[str], known: Sequence[str], usage: str) -> None:
    """Checks that each word gives a key a value, and each key one.

    Args:
        verb: the verb, for the message.
        arguments: of its command line.
        known: the keys that it has.
        usage: how it is used, for the message.

    Raises:
        ValueError: a flag or another word, or a key that is unknown or given twice.
    """
    for argument in arguments:
        if argument.startswith("-") or "=" not in argument:
            raise ValueError(f"{verb}: got {argument!r}; allowed: {usage}")
    keys = [key_of(argument) or argument for argument in arguments]
    for key in keys:
        if key not in known:
            raise ValueError(f"{verb}: {unknown('key', key, known)}")
        if keys.count(key) > 1:
            raise ValueError(f"{key}: it is given {keys.count(key)} times; give it once.")
