"""The house: which room stands above which, who may see a config, and what stays light."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from helpers.command_line import HEAVY, imported_by

SOURCE = Path(__file__).parents[1] / "src" / "regraft"

FLOORS = (
    ("core",),
    ("tasks",),
    ("config",),
    ("runs",),
    ("models", "data", "sweeps", "features"),
    ("training",),
    ("deployment",),
    ("evaluation",),
    ("report",),
    ("cli",),
)
"""Rooms from the ground up: a file imports its own room and lower floors; rooms of one floor stand apart."""
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
MAY_SEE_CONFIGS = ("config", "cli", "sweeps")
"""Rooms that may import Hydra and OmegaConf, beside files called from_config.py."""


@cache
def modules() -> tuple[Path, ...]:
    return tuple(sorted(SOURCE.rglob("*.py")))


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def dotted(path: Path) -> str:
    return ".".join(("regraft", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


@cache
def imports_of(path: Path) -> set[str]:
    """Returns every dotted name that a file imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_room_imports_itself_and_lower_floors_only(path):
    room = room_of(path)
    if room not in FLOOR_OF:
        return
    rooms = {name.split(".")[1] for name in imports_of(path) if name.startswith("regraft.")} - {room}
    assert not {other for other in rooms if FLOOR_OF.get(other, -1) >= FLOOR_OF[room]}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_configs_are_seen_only_where_they_are_composed_or_built(path):
    sees = {name.split(".")[0] for name in imports_of(path)} & {"hydra", "omegaconf"}
    assert not sees or room_of(path) not in FLOOR_OF or room_of(path) in MAY_SEE_CONFIGS or path.stem == "from_config"


def test_no_files_import_each_other_in_a_circle():
    arrows = {dotted(path): set(imported_files(path)) for path in modules() if path.name != "__init__.py"}
    assert not circle_in(arrows)


def imported_files(path: Path) -> Iterator[str]:
    """Yields the modules of ours that a file imports; a package stands for its own `__init__`, which isn't one."""
    for name in imports_of(path):
        yield from {name, name.rpartition(".")[0]} & names_of_modules()


@cache
def names_of_modules() -> frozenset[str]:
    return frozenset(dotted(each) for each in modules() if each.name != "__init__.py")


def circle_in(arrows: dict[str, set[str]]) -> list[str]:
    """Returns the nodes of one circle in the order of its arrows; empty if there is none."""
    done: set[str] = set()

    def follow(node: str, way: list[str]) -> list[str]:
        if node in way:
            return way[way.index(node) :]
        if node in done:
            return []
        for after in sorted(arrows.get(node, ())):
            found = follow(after, [*way, node])
            if found:
                return found
        done.add(node)
        return []

    return next((found for node in sorted(arrows) if (found := follow(node, []))), [])


def test_circles_are_found():
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]
    assert not circle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()})


DOCUMENTED = {"_asdict", "_fields", "_make", "_replace", "_exit"}
"""Public in spite of their underscore: of named tuples, and `os._exit`."""
LOOPS = {"fit_loop", "epoch_loop", "configure_ddp"}
"""Lightning's, public by their names only."""
INTERNALS = sorted(SOURCE.rglob("*_internals.py"))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("_") and name not in DOCUMENTED


@cache
def names_of_ours() -> set[str]:
    """Returns every underscored name that a file of ours defines."""
    names: set[str] = set()
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_of_itself(node):
                names.add(node.attr)
    return set(filter(is_private, names))


def is_of_itself(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def private_names_of_others(source: str, ours: set[str]) -> list[str]:
    """Returns the underscored names of other packages that a file's text uses."""
    tree = ast.parse(source)
    found: list[str] = []
    foreign: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            start = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            for alias in node.names:
                if not (start + alias.name).startswith("regraft."):
                    foreign.add((alias.asname or alias.name).partition(".")[0])
                    found += [start + alias.name] if any(map(is_private, (start + alias.name).split("."))) else []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (is_private(node.attr) or node.attr in LOOPS):
            is_foreign = isinstance(node.value, ast.Name) and node.value.id in foreign
            found += [ast.unparse(node)] if is_foreign or node.attr not in ours else []
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr", "delattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(name.value) and name.value not in ours:
                found.append(ast.unparse(node))
    return found


def test_private_names_of_other_packages_are_in_one_file_each():
    ours = names_of_ours()
    assert not {
        str(path.relative_to(SOURCE)): found
        for path in modules()
        if path not in INTERNALS and (found := private_names_of_others(path.read_text(encoding="utf-8"), ours))
    }
    assert len({path.name for path in INTERNALS}) == len(INTERNALS)


@pytest.mark.parametrize(
    "source",
    [
        "from torch.utils._pytree import tree_leaves",
        "import hydra._internal.utils",
        "from torch.nn.modules.batchnorm import _BatchNorm",
        "import torch\ntorch._mine(1)",
        "loop._restarting = False",
        "self._normalize_file_name('a')",
        "getattr(module, '_modules')",
        "trainer.fit_loop.setup_data()",
    ],
)
def test_private_names_are_found(source):
    assert private_names_of_others(source, {"_mine"})


def test_names_of_our_own_and_documented_ones_are_allowed():
    source = (
        "import os\nfrom regraft.core import _mine\nos._exit(1)\nother._mine\nrow._asdict()\nx.__class__\nself._mine"
    )
    assert not private_names_of_others(source, {"_mine"})


@pytest.mark.parametrize("path", INTERNALS, ids=lambda path: path.stem)
def test_what_reaches_into_a_package_has_a_test_named_after_it(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and any(map(is_private, str(node.module).split("."))):
            names |= {alias.name for alias in node.names}
    tests = Path(__file__).parent / path.relative_to(SOURCE).with_name(f"test_{path.name}")
    lower = {name.lower() for name in re.findall(r"^def test_(\w+)", tests.read_text(encoding="utf-8"), re.MULTILINE)}
    assert not {name for name in names if not any(test.startswith(snake(name)) for test in lower)}


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def test_no_room_without_a_purpose_in_its_name():
    banned = {"utils", "helpers", "common", "misc"}
    assert not banned & {part for path in modules() for part in path.with_suffix("").parts}


def test_the_command_line_is_light():
    assert not imported_by("import regraft, regraft.cli.main", [*HEAVY, "numpy"])


def test_a_training_worker_has_no_words_of_the_command_line():
    assert not imported_by(
        "import regraft.training.fit", ["regraft.cli.help", "regraft.evaluation.compare", "regraft.runs.find"]
    )


READS_MESSAGES = {"config/hydra_messages.py", "core/memory.py", "cli/main.py"}
"""Files that read the wording of errors: Hydra's and OmegaConf's, torch's, pathlib's. Those of ours carry their key."""
_READING = {"startswith", "endswith", "removeprefix", "removesuffix", "partition", "rpartition", "replace", "find"}


def readings_of_messages(source: str) -> list[int]:
    """Returns the lines that decide by the text of an exception: with a pattern, `in`, or a method that looks at it."""
    lines = []
    for handler in [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ExceptHandler) and node.name]:
        for node in ast.walk(handler):
            looked_at: list[ast.expr] = []
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                of_re = isinstance(node.func.value, ast.Name) and node.func.value.id == "re"
                looked_at = node.args if of_re else [node.func.value] if node.func.attr in _READING else []
            elif isinstance(node, ast.Compare) and any(isinstance(op, ast.In | ast.NotIn) for op in node.ops):
                looked_at = node.comparators
            texts = [each for expr in looked_at for each in ast.walk(expr) if isinstance(each, ast.Call)]
            if any(isinstance(each.func, ast.Name) and each.func.id == "str" and is_name(each.args, handler.name)
                   for each in texts):  # fmt: skip
                lines.append(node.lineno)
    return lines


def is_name(arguments: list[ast.expr], name: str | None) -> bool:
    return len(arguments) == 1 and isinstance(arguments[0], ast.Name) and arguments[0].id == name


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_control_flow_reads_a_message(path):
    found = readings_of_messages(path.read_text(encoding="utf-8"))
    assert not found or str(path.relative_to(SOURCE)) in READS_MESSAGES


@pytest.mark.parametrize(
    "use",
    ["re.sub('a', 'b', str(e))", "str(e).removeprefix('run')", "'x' in str(e)", "' '.join(str(e).split()).find('x')"],
)
def test_readings_of_messages_are_found(use):
    assert readings_of_messages(f"try:\n    f()\nexcept ValueError as e:\n    {use}\n") == [4]
    assert not readings_of_messages("try:\n    f()\nexcept ValueError as e:\n    print(str(e))\n")
