"""The Jinja templates of reports, in the folder `pages`."""

import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


@cache  # compiling takes longer than rendering
def template(name: str, **filters: Callable[..., Any]) -> Template:
    """Returns a template that escapes its values; `filters` are in addition to Jinja's own."""
    environment = Environment(
        loader=PackageLoader("regraft.report", "pages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"unbroken": unbroken, **filters}
    return environment.get_template(name)


def source(name: str) -> str:
    """Returns the content of a file in `pages`."""
    return files("regraft.report").joinpath("pages", name).read_text(encoding="utf-8")


def unbroken(text: str) -> str:
    """Returns text whose percent signs stay on the line of their number."""
    return re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", text)


def number(value: int) -> str:
    """Returns a number with thousands separators."""
    return f"{value:,}"
