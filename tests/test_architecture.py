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
CONFIGS = {"hydra", "omegaconf"}


@cache
def modules() -> tuple[Path, ...]:
    return tuple(sorted(SOURCE.rglob("*.py")))


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


def dotted(path: Path) -> str:
    return ".".join(("regraft", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def nodes_of(tree: ast.AST) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree))


def name_of(function: ast.expr) -> str:
    """Returns the last part of a called function's name; empty for one without a name."""
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


@cache
def imports_of(path: Path) -> set[str]:
    """Returns every dotted name that a file imports, also inside functions."""
    names: set[str] = set()
    for node in nodes_of(tree_of(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_a_room_imports_itself_and_lower_floors_only():
    assert not {dotted(path): wrong for path in modules() if (wrong := higher_rooms_of(path))}


def higher_rooms_of(path: Path) -> set[str]:
    """Returns the rooms that a file imports and may not."""
    room = room_of(path)
    rooms = {name.split(".")[1] for name in imports_of(path) if name.startswith("regraft.")} - {room}
    return {other for other in rooms if FLOOR_OF.get(other, -1) >= FLOOR_OF[room]} if room in FLOOR_OF else set()


def test_text_reaches_a_terminal_or_a_csv_file_through_what_escapes_it():
    """Names of others may hold escape sequences and formulas, see `core.text`."""
    raw = {"csv.writer", "csv.DictWriter", "rich.console.Console", "rich.print", "rich.get_console"}
    others = [path for path in modules() if dotted(path) not in ("regraft.core.text", "regraft.core.console")]
    assert not [
        dotted(path) for path in others if raw & (imports_of(path) | calls_of(path)) or "print" in calls_of(path)
    ]


def calls_of(path: Path) -> set[str]:
    """Returns the names that a file calls, such as `print` and `csv.writer`."""
    return {ast.unparse(node.func) for node in nodes_of(tree_of(path)) if isinstance(node, ast.Call)}


def test_configs_are_seen_only_where_they_are_composed_or_built():
    rooms = FLOOR_OF.keys() - set(MAY_SEE_CONFIGS)
    others = [path for path in modules() if room_of(path) in rooms and path.stem != "from_config"]
    assert not [dotted(path) for path in others if {name.split(".")[0] for name in imports_of(path)} & CONFIGS]


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
        for node in nodes_of(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_of_itself(node):
                names.add(node.attr)
    return set(filter(is_private, names))


def is_of_itself(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def private_names_of_others(tree: ast.Module, ours: set[str]) -> list[str]:
    """Returns the underscored names of other packages that a file uses."""
    found: list[str] = []
    foreign: set[str] = set()
    for node in nodes_of(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            start = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            for alias in node.names:
                if not (start + alias.name).startswith("regraft."):
                    foreign.add((alias.asname or alias.name).partition(".")[0])
                    found += [start + alias.name] if any(map(is_private, (start + alias.name).split("."))) else []
    for node in nodes_of(tree):
        if isinstance(node, ast.Attribute) and (is_private(node.attr) or node.attr in LOOPS):
            is_foreign = isinstance(node.value, ast.Name) and node.value.id in foreign
            found += [ast.unparse(node)] if is_foreign or node.attr not in ours else []
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
            "getattr",
            "setattr",
            "hasattr",
            "delattr",
        ):
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(name.value) and name.value not in ours:
                found.append(ast.unparse(node))
    return found


def test_private_names_of_other_packages_are_in_one_file_each():
    ours = names_of_ours()
    assert not {
        str(path.relative_to(SOURCE)): found
        for path in modules()
        if path not in INTERNALS and (found := private_names_of_others(tree_of(path), ours))
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
    assert private_names_of_others(ast.parse(source), {"_mine"})


def test_names_of_our_own_and_documented_ones_are_allowed():
    source = (
        "import os\nfrom regraft.core import _mine\nos._exit(1)\nother._mine\nrow._asdict()\nx.__class__\nself._mine"
    )
    assert not private_names_of_others(ast.parse(source), {"_mine"})


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
        "import regraft.training.fit.train", ["regraft.cli.help", "regraft.evaluation.compare", "regraft.runs.find"]
    )


READS_MESSAGES = {
    "config/hydra_messages.py": "Hydra's and OmegaConf's",
    "config/instantiate.py": "a missing package's",
    "core/memory.py": "torch's",
    "data/loader_processes.py": "torch's, about the processes of its loaders",
    "data/images/file_reading/facts.py": "Pillow's",
    "cli/main.py": "pathlib's",
}
"""Files that read the words of other packages' errors; ours are data."""
_READING = {"startswith", "endswith", "removeprefix", "removesuffix", "partition", "rpartition", "replace", "find"}
_WORDS = {"text", "reason", "detail", "verdict", "problem", "message", "messages", "sentence", "strerror"}
"""Attributes that hold what is shown to the user."""


def readings_of_messages(tree: ast.Module, sentences: set[str]) -> list[int]:
    """Returns the lines that decide by what an error says: with a pattern, a comparison, or a method that looks at it.

    Args:
        tree: of a module.
        sentences: names of constants that hold one.
    """
    errors = {node.name for node in nodes_of(tree) if isinstance(node, ast.ExceptHandler) and node.name}
    lines: set[int] = set()
    for scope in [node for node in nodes_of(tree) if isinstance(node, ast.FunctionDef | ast.Module)]:
        assigned = [node for node in nodes_of(scope) if isinstance(node, ast.Assign | ast.NamedExpr)]
        words: set[str] = set()
        if isinstance(scope, ast.FunctionDef):
            for node in assigned:
                if says(node.value, errors, words):
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    words |= {target.id for target in targets if isinstance(target, ast.Name)}
        for node in nodes_of(scope):
            if any(says(each, errors, words) or is_sentence(each, sentences) for each in looked_at(node)):
                lines.add(node.lineno)
    return sorted(lines)


def looked_at(node: ast.AST) -> list[ast.expr]:
    """Returns the expressions whose text a node decides by."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        of_re = isinstance(node.func.value, ast.Name) and node.func.value.id == "re"
        return node.args if of_re else [node.func.value] if node.func.attr in _READING else []
    if isinstance(node, ast.Compare) and not any(isinstance(op, ast.Is | ast.IsNot) for op in node.ops):
        return [node.left, *node.comparators]
    return []


def says(expression: ast.expr, errors: set[str], words: set[str]) -> bool:
    """Whether an expression is, or is made of, what an error says."""
    if isinstance(expression, ast.Call) and re.match(r"(len|type|isinstance|[A-Z]\w*)$", name_of(expression.func)):
        return False  # a number, or a value that has the words inside
    for node in nodes_of(expression):
        is_text = isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("str", "repr", "format")
        if is_text and any(isinstance(each, ast.Name) and each.id in errors for each in node.args):
            return True
        if isinstance(node, ast.Attribute) and node.attr in _WORDS:
            return True
        if isinstance(node, ast.Name) and node.id in words:
            return True
    return False


def is_sentence(expression: ast.expr, sentences: set[str]) -> bool:
    return isinstance(expression, ast.Name | ast.Attribute) and name_of(expression) in sentences


@cache
def constant_sentences() -> tuple[tuple[Path, str], ...]:
    """Returns module and name of the constants that are a sentence, or are made with one."""
    found: list[tuple[Path, str]] = []
    for path in modules():
        for node in tree_of(path).body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.Call):
                parts = [node.value, *(node.value.args if isinstance(node.value, ast.Call) else [])]
                if any(isinstance(part, ast.Constant) and str(part.value).count(" ") > 1 for part in parts):
                    found += [(path, target.id) for target in node.targets if isinstance(target, ast.Name)]
    return tuple(found)


def sentences_in(module: Path) -> set[str]:
    return {name for path, name in constant_sentences() if path == module or not is_private(name)}


def test_no_control_flow_reads_a_message():
    reading = {
        str(path.relative_to(SOURCE)): lines
        for path in modules()
        if (lines := readings_of_messages(tree_of(path), sentences_in(path)))
    }
    assert not {path: lines for path, lines in reading.items() if path not in READS_MESSAGES}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.html")), ids=lambda path: path.name)
def test_no_page_decides_by_a_sentence(path):
    assert not re.findall(rf"startswith\(|\.(?:{'|'.join(_WORDS)}) (?:==|!=|in) ", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "use",
    [
        "re.sub('a', 'b', str(e))",
        "str(e).removeprefix('run')",
        "'x' in str(e)",
        "' '.join(str(e).split()).find('x')",
        "text = str(e)\n        if 'x' in text: pass",
        "if re.search('x', text := repr(e)): pass",
        "e.detail.startswith('Too many')",
        "return state.reason == 'killed'",
        "return outcome == RUNNING",
    ],
)
def test_readings_of_messages_are_found(use):
    source = "def f():\n    try:\n        g()\n    except ValueError as e:\n        {}\n"
    assert readings_of_messages(ast.parse(source.format(use)), {"RUNNING"}) == [5 + use.count("\n")]
    for harmless in ("print(str(e))", "text = str(e) or 'none'", "return state.reason is None"):
        assert not readings_of_messages(ast.parse(source.format(harmless)), {"RUNNING"})


def test_mistakes_with_a_key_are_data():
    """Nothing raises a sentence that begins with a key: `ConfigError` takes it apart."""
    found = []
    for path in modules():
        for node in nodes_of(tree_of(path)):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                is_data = ast.unparse(node.exc.func) in ("ConfigError", "UnknownNameError", "MissingFileError")
                if not is_data and re.match(r"""f?["'][\w.{}=]+: """, ast.unparse(node.exc.args[0])):
                    found.append(f"{path.relative_to(SOURCE)}:{node.lineno}")
    assert not found


def test_what_to_do_is_a_sentence_of_its_own():
    """A fix begins with what to do, not with a label."""
    assert not [path for path in modules() if "Fix: " in path.read_text(encoding="utf-8")]
