"""Writes the reference of all configs from conf/: each file's first line, its keys, defaults and comments."""

from pathlib import Path

from sphinx.application import Sphinx

CONF = Path(__file__).parents[2] / "conf"
PLACEHOLDER = "<!-- generated from conf/ -->"
GROUPS = {
    "data": "What a model is trained on.",
    "model": "The backbone.",
    "head": "What follows the backbone.",
    "freezing": "Which stages train, and when.",
    "features": "The store for the outputs of frozen stages.",
    "augment": "How training images are varied.",
    "loss": "What is minimised.",
    "optimizer": "How the weights are updated.",
    "scheduler": "How the learning rate changes during a run.",
    "trainer": "Devices, precision and length of a run: keys of Lightning's `Trainer`.",
    "callbacks": "Checkpoints, early stopping and averages of weights.",
    "logger": "Where metrics are written.",
    "sweep": "How the jobs of `-m` are chosen.",
    "experiment": "Complete settings under one name.",
}


def config_reference() -> str:
    """Returns the whole reference as Markdown."""
    commands = "\n".join(_section(path, 3, path.name) for path in sorted(CONF.glob("*.yaml")))
    groups = "\n".join(_group(name, line) for name, line in GROUPS.items())
    return f"## Groups\n\n{groups}\n## Commands\n\n{commands}"


def _group(name: str, line: str) -> str:
    files = sorted((CONF / name).glob("*.yaml"), key=lambda path: (path.stem.startswith("_"), path.stem))
    return f"### {name}\n\n{line}\n\n" + "\n".join(_section(path, 4, f"{name}={path.stem}") for path in files)


def _section(path: Path, level: int, title: str) -> str:
    """Returns one file: its description, and its keys as they are written; headers and defaults lists stay."""
    lines = path.read_text(encoding="utf-8").splitlines()
    package = [line for line in lines if line.startswith("# @package")]
    header = [line.removeprefix("# ") for line in lines[: _header_length(lines)] if line not in package]
    bases, keys = _without_defaults("\n".join(lines[_header_length(lines) :]).strip())
    if path.stem.startswith("_"):
        title = f"Keys of every choice ({path.relative_to(CONF)})"
    inherited = f"With the keys of {' and '.join(f'`{base}`' for base in bases)}.\n\n" if bases else ""
    block = f"```yaml\n{keys}\n```\n" if keys else ""
    return f"{'#' * level} {title}\n\n{_description(header)}\n{inherited}{block}"


def _without_defaults(text: str) -> tuple[list[str], str]:
    """Returns the files of the same group that a file starts from, and its text without Hydra's list of them.

    The list of a command, which names a choice of each group, stays.
    """
    if not text.startswith("defaults:"):
        return [], text
    lines = text.splitlines()
    end = next((number for number, line in enumerate(lines) if number and not line.startswith("  -")), len(lines))
    bases = [line.strip().removeprefix("- ") for line in lines[1:end]]
    if any(":" in base for base in bases):
        return [], text
    return [base for base in bases if base != "_self_"], "\n".join(lines[end:]).strip()


def _header_length(lines: list[str]) -> int:
    return next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))


def _description(header: list[str]) -> str:
    """Returns the first line as a sentence, commands as code, and further lines as they are."""
    first, *more = header
    parts = [first if first.endswith(".") else f"{first}."]
    parts += [f"```text\n{line}\n```" if line.startswith("regraft ") else line for line in more]
    return "\n\n".join(parts) + "\n"


def _insert(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname == "reference/config":
        assert PLACEHOLDER in source[0]
        source[0] = source[0].replace(PLACEHOLDER, config_reference())


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the extension."""
    app.connect("source-read", _insert)
    return {"parallel_read_safe": True}
