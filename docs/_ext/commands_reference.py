"""Writes the reference of all commands from the command line's own help."""

from sphinx.application import Sphinx

from regraft.cli.help import USAGES, VERBS, usage_of

PLACEHOLDER = "<!-- generated from regraft --help -->"


def commands_reference() -> str:
    """Returns a section for each command as Markdown."""
    return "\n".join(_section(name, line) for name, line in VERBS.items())


def _section(name: str, line: str) -> str:
    usage = f"```text\n{usage_of(name)}\n```\n" if name in USAGES else ""
    return f"## {name}\n\n{line[0].upper()}{line[1:]}.\n\n{usage}"


def _insert(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname == "reference/commands":
        assert PLACEHOLDER in source[0]
        source[0] = source[0].replace(PLACEHOLDER, commands_reference())


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the extension."""
    app.connect("source-read", _insert)
    return {"parallel_read_safe": True}
