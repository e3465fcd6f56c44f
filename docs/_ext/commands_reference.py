"""Writes the reference of all commands from the command line's own help."""

from sphinx.application import Sphinx

from regraft.cli import commands

PLACEHOLDER = "<!-- generated from the commands -->"


def commands_reference() -> str:
    """Returns a section for each command as Markdown."""
    return "\n".join(_section(name, summary) for name, summary in commands.summaries().items())


def _section(name: str, summary: str) -> str:
    command = commands.find(name)
    keys = (
        f"It takes the keys of [{command.config_name}.yaml](config.md), and the groups.\n" if not command.help else ""
    )
    return f"## {name}\n\n{summary}\n\n```text\n{command.help or f'usage: {command.usage}'}\n```\n\n{keys}"


def _insert(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname == "reference/commands":
        assert PLACEHOLDER in source[0]
        source[0] = source[0].replace(PLACEHOLDER, commands_reference())


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the extension."""
    app.connect("source-read", _insert)
    return {"parallel_read_safe": True}
