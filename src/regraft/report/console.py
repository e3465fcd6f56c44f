"""What the tables on the terminal share; imports no torch."""

from rich.text import Text

from regraft.core.console import Console


def wide_console(width: int) -> Console:
    """Returns the console of standard output; where that isn't a terminal, its lines have `width` columns."""
    console = Console()
    return console if console.is_terminal else Console(width=width)


def print_line(console: Console, line: str) -> None:
    """Prints a line without wrapping it, so that a path in it can be copied."""
    console.print(line, soft_wrap=True, highlight=False)


def plain_cell(cell: str) -> Text:
    """Returns text without rich's markup, with unprintable characters as blanks."""
    return Text("".join(letter if letter.isprintable() else " " for letter in cell))
