"""The configs that come with Regraft: where they are, and which classes and functions they name."""

import re
from functools import lru_cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_TARGET = re.compile(r"^\s*(?:- )?_target_: *([\w.]+)", re.MULTILINE)


def conf_dir() -> Path:
    """Returns the folder of shipped configs: inside the package when installed from a wheel, else the checkout's."""
    installed = _PACKAGE / "conf"
    return installed if installed.is_dir() else _PACKAGE.parents[1] / "conf"


@lru_cache(maxsize=1)
def shipped_targets() -> frozenset[str]:
    """Returns every `_target_` of the shipped configs."""
    files = conf_dir().rglob("*.yaml")
    return frozenset(name for file in files for name in _TARGET.findall(file.read_text(encoding="utf-8")))
