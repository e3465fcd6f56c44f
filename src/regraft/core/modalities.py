"""The kinds of inputs, by the names that checkpoints and sources have for them."""

from collections.abc import Mapping
from typing import Any

from regraft.core.errors import ConfigError
from regraft.core.image_spec import ImageSpec
from regraft.core.input_spec import InputSpec
from regraft.core.text_spec import TextSpec

SPECS: Mapping[str, type[InputSpec]] = {spec.kind: spec for spec in (ImageSpec, TextSpec)}
"""The input spec of each kind."""


def input_spec_of(fields: Mapping[str, Any]) -> InputSpec:
    """Returns the spec from the result of `to_dict`; raises ConfigError if it isn't one."""
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    kind = given.pop("kind", None)
    try:
        return SPECS[kind](**given)
    except (KeyError, TypeError) as error:
        raise ConfigError("input_spec", f"{fields} is not a valid input spec ({error}).") from error
