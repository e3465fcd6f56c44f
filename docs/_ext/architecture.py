"""Draws the packages of src/regraft on their floors, with an arrow for each import between them, as SVG.

The floors are those of tests/test_architecture.py; the arrows are read from the source files.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "regraft"
PLACEHOLDER = "<!-- generated from the imports -->"
WIDTH, BOX, HEIGHT, FLOOR = 760, 120, 34, 68


def floors() -> tuple[tuple[str, ...], ...]:
    """Returns the packages of each floor from the ground up; those without a folder are left out."""
    tree = ast.parse((ROOT / "tests" / "test_architecture.py").read_text(encoding="utf-8"))
    value = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["FLOORS"]
    )
    found = (tuple(room for room in rooms if (SOURCE / room).is_dir()) for rooms in ast.literal_eval(value))
    return tuple(rooms for rooms in found if rooms)


def imports(rooms: set[str]) -> set[tuple[str, str]]:
    """Returns (importing package, imported package) of all files, imports inside functions included."""
    return {
        (room, name.split(".")[1])
        for room in rooms
        for path in (SOURCE / room).rglob("*.py")
        for name in _imported(path)
        if name.startswith("regraft.") and name.split(".")[1] in rooms - {room}
    }


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_implied(arrow: tuple[str, str], arrows: set[tuple[str, str]]) -> bool:
    """Whether a longer way leads from the one package to the other."""
    start, end = arrow
    found = {middle for first, middle in arrows if first == start and middle != end}
    while True:
        more = found | {after for before, after in arrows if before in found}
        if more == found:
            return end in found
        found = more


def drawing() -> str:
    """Returns the SVG; arrows that a longer way implies are drawn faintly."""
    levels = floors()
    rooms = {room for floor in levels for room in floor}
    arrows = imports(rooms)
    places = {
        room: (WIDTH * (index + 1) / (len(floor) + 1), FLOOR * (len(levels) - level) - HEIGHT)
        for level, floor in enumerate(levels)
        for index, room in enumerate(floor)
    }
    lines = [_arrow(arrow, places, is_implied(arrow, arrows)) for arrow in sorted(arrows)]
    boxes = [_box(room, *place) for room, place in places.items()]
    height = FLOOR * len(levels) + 10
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
            'aria-label="The packages of Regraft and what each imports" font-family="sans-serif" font-size="14">',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0 0L8 4L0 8z" fill="currentColor"/></marker></defs>',
            *sorted(lines, key=lambda line: "opacity" not in line),
            *boxes,
            "</svg>",
        ]
    )


def _box(room: str, x: float, y: float) -> str:
    frame = 'fill="var(--color-background-secondary, #f8f9fb)" stroke="currentColor"'
    return (
        f'<rect x="{x - BOX / 2:g}" y="{y:g}" width="{BOX}" height="{HEIGHT}" rx="6" {frame}/>'
        f'<text x="{x:g}" y="{y + 22:g}" text-anchor="middle" fill="currentColor">{room}</text>'
    )


def _arrow(arrow: tuple[str, str], places: dict[str, tuple[float, float]], is_faint: bool) -> str:
    """Returns a curve; the faint ones bend around what stands between, on alternating sides."""
    (x0, y0), (x1, y1) = (places[room] for room in arrow)
    y0 += HEIGHT
    bend = (y1 - y0) / 2
    side = 0.0
    if is_faint:
        side = (-1 if sum(map(ord, "".join(arrow))) % 2 else 1) * (30 + 0.45 * (y1 - y0))
    path = f"M{x0:g} {y0:g}C{x0 + side:g} {y0 + bend:g} {x1 + side:g} {y1 - bend:g} {x1:g} {y1:g}"
    style = 'opacity="0.18" ' if is_faint else 'marker-end="url(#tip)" '
    return f'<path d="{path}" fill="none" stroke="currentColor" {style}/>'


def _insert(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname == "explanation/architecture":
        assert PLACEHOLDER in source[0]
        source[0] = source[0].replace(PLACEHOLDER, f"```{{raw}} html\n{drawing()}\n```")


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the extension."""
    app.connect("source-read", _insert)
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    print(drawing())
