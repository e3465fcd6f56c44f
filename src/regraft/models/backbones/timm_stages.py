"""Which parameters of a timm model make a stage, and what the stage is called.

Both come from the model's own `group_matcher`.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any

from timm.models import group_parameters
from torch import nn

_LOGGER = logging.getLogger(__name__)
# timm's mark for "belongs to the group before": a trailing norm or convolution, which is a stage of its own here.
_MERGE_WITH_PREVIOUS = 99999
_CONTAINERS = ("blocks", "stages", "layers", "levels", "cells")
# Not fit for a stage's name without what follows in the path; `head` is what Regraft puts on top.
_VAGUE = (*_CONTAINERS, "head")


def stages_of(model: nn.Module) -> dict[str, list[str]]:
    """Returns stage name to parameter names, from the input up, as the model's `group_matcher` has them."""
    try:
        matcher = model.group_matcher(coarse=True)  # type: ignore[operator]
    # A method that a model lacks, or that says "not implemented" by an assertion (rdnet).
    except (AttributeError, AssertionError, NotImplementedError) as error:
        _LOGGER.warning("%s has no group_matcher (%r); it is one stage, `backbone`.", type(model).__name__, error)
        return {"backbone": [name for name, _ in model.named_parameters()]}
    if isinstance(matcher, Mapping):
        matcher = {key: _separate_tail(spec) for key, spec in matcher.items()}
    groups = group_parameters(model, matcher)
    return dict(zip(_stage_names(list(groups.values())), groups.values(), strict=True))


def _separate_tail(spec: Any) -> Any:
    """Returns a group_matcher's entry with its trailing modules as groups of their own."""
    if not isinstance(spec, (list, tuple)):
        return spec
    tail = (float(_MERGE_WITH_PREVIOUS - 1),)
    return [(pattern, tail if suffix == (_MERGE_WITH_PREVIOUS,) else suffix) for pattern, suffix in spec]


def _stage_names(groups: list[list[str]]) -> list[str]:
    """Returns a name for each group: stem or patch_embed, then the shortest module path that tells it from the rest."""
    first = "patch_embed" if any("patch_embed" in parameter for parameter in groups[0]) else "stem"
    paths = [group[0].split(".")[:-1] or [group[0]] for group in groups]
    depths = [1] * len(groups)
    while True:
        names = [first] + [_label(path[:depth]) for path, depth in zip(paths[1:], depths[1:], strict=True)]
        longer = [
            min(depth + 1, len(path)) if names.count(name) > 1 or name in _VAGUE else depth
            for name, path, depth in zip(names, paths, depths, strict=True)
        ]
        if longer == depths:
            return [name if names.count(name) == 1 else f"{name}_{index}" for index, name in enumerate(names)]
        depths = longer


def _label(path: list[str]) -> str:
    """Returns a stage's name for a module path: `blocks.3` is block3, `encoder.norm` norm, `network.0.1` network0_1."""
    *_, word = [part for part in path if not part.isdigit()]
    last = max(index for index, part in enumerate(path) if part == word)
    numbers = path[last + 1 :]
    if numbers and word in _CONTAINERS:
        word = word.removesuffix("s")
    return word + ("_" if numbers and re.search(r"\d$", word) else "") + "_".join(numbers)
