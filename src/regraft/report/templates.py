"""The HTML pages that reports are filled into; they lie in `pages`."""

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


@cache
def template(name: str, **filters: Callable[..., Any]) -> Template:
    """Returns a page to fill in, which escapes whatever it is given; made once, for that takes longer than filling it.

    Args:
        name: of its file.
        filters: that it uses besides Jinja's own.
    """
    environment = Environment(
        loader=PackageLoader("regraft.report", "pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= filters
    return environment.get_template(name)


def source(name: str) -> str:
    """Returns a file of the pages as it is."""
    return files("regraft.report").joinpath("pages", name).read_text(encoding="utf-8")


def number(value: int) -> str:
    """Returns a number with its thousands apart."""
    return f"{value:,}"
