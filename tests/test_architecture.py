"""The arrows of the house: who may import whom, and what stays light."""

import ast
from pathlib import Path

import pytest

from command_line import HEAVY, imported_by

SOURCE = Path(__file__).parents[1] / "src" / "regraft"

# What each room may import of ours, itself aside. A room that isn't named may import contracts and seeding only.
ALLOWED = {
    "contracts": set(),
    "seeding": set(),
    "reliability": set(),
    "scores": {"reliability"},
    "calibration": {"atomic", "runs"},
    "evaluation": {"atomic", "calibration", "robustness", "scores", "shift"},
    "robustness": {"seeding"},
    "shift": {"reliability"},
    "stability": {"atomic"},
    "atomic": set(),
    "plain_data": set(),
    "shipped": set(),
    "trust": {"plain_data", "quoting", "shipped"},
    "quoting": set(),
    "config_files": {"plain_data", "shipped", "trust"},
    "runs": {"atomic", "plain_data"},
    "handles": {"runs"},
    "slurm": set(),
    "arguments": {"handles", "runs", "slurm"},
    "run_lock": set(),
    "process_marks": set(),
    "run_state": {"atomic", "process_marks", "run_lock", "runs", "slurm", "startup"},
    "provenance": {"atomic", "runs"},
    "startup": set(),
    "composition": {"config_files", "quoting", "shipped", "trust"},
    "faults": set(),
    "overrides": {"arguments", "composition", "faults", "shipped", "sweeps", "top_level"},
    "top_level": {"composition", "shipped"},
    "resuming": {"arguments", "dotted"},
    "dotted": set(),
    "checkpoints": {"atomic", "backbones", "contracts", "plain_data", "runs", "trust"},
    "backbones": {"contracts", "plain_data", "runs", "seeding"},
    "sweeps": {"arguments", "atomic", "composition", "handles", "process_marks", "provenance", "run_state", "runs"},
    "predictions": {"atomic", "scores"},
    "predicting": {"atomic", "contracts", "data", "trained"},
    "exporting": {"atomic", "contracts", "data", "heads", "seeding", "trained"},
    "serving": {"contracts", "data", "trained"},
    "comparing": {
        "arguments",
        "composition",
        "dotted",
        "handles",
        "predictions",
        "provenance",
        "run_state",
        "runs",
        "sweeps",
    },
    "grid": {"grid_heads"},
    "grid_heads": set(),
    "head_steps": {"contracts", "optim"},
    "head_epoch": {"contracts", "head_steps"},
    "run_schedule": {"plateau", "schedulers"},
    "run_progress": {"run_schedule", "train_metrics"},
    "interrupts": {"checkpoints", "slurm"},
    "train_metrics": {"metrics"},
    "trained": {"contracts", "data", "predicting"},
    "module": {
        "contracts",
        "divergence",
        "head_epoch",
        "head_steps",
        "losses",
        "metrics",
        "optim",
        "run_progress",
        "run_schedule",
        "seeding",
        "train_metrics",
    },
    "freezing": {"contracts", "seeding", "optim"},
    "caches": set(),
    "data": {"atomic", "caches", "contracts", "seeding"},
    "machine_memory": set(),
    "features": {"atomic", "caches", "contracts", "machine_memory", "seeding"},
    "attention": {"data", "trained"},
    "report": {
        "atomic",
        "calibration",
        "comparing",
        "contracts",
        "data",
        "dotted",
        "evaluation",
        "exporting",
        "features",
        "freezing",
        "handles",
        "predicting",
        "predictions",
        "provenance",
        "reliability",
        "robustness",
        "run_state",
        "runs",
        "shift",
    },
    "build": {"*"},
    "verbs": {"*"},
    "cli": {
        "arguments",
        "cli_app",
        "cli_completion",
        "cli_words",
        "composition",
        "faults",
        "quoting",
        "startup",
        "sweeps",
        "verbs",
        "*version",
    },
    "cli_app": {"composition", "config_files", "faults", "runs", "shipped", "startup", "trust", "verbs"},
    "cli_completion": {"cli_words", "composition", "handles"},
    "cli_words": {"composition", "*version"},
    "__init__": {"build", "comparing", "handles", "runs", "trained", "verbs"},
    "__main__": {"cli"},
}
MAY_SEE_CONFIGS = {
    *(
        "cli",
        "cli_app",
        "composition",
        "config_files",
        "overrides",
        "quoting",
        "trust",
        "sweeps",
        "top_level",
        "build",
        "verbs",
    ),
}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").parts[0]


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
def test_a_room_imports_only_what_it_may(path):
    room = room_of(path)
    allowed = ALLOWED.get(room, {"contracts", "seeding"})
    ours = {name.split(".")[1] for name in imports_of(path) if name.startswith("regraft.")}
    if "*version" in allowed:
        ours.discard("__version__")
    assert "*" in allowed or ours - {room} <= allowed


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_configs_are_seen_only_where_they_are_composed_or_built(path):
    sees = {name.split(".")[0] for name in imports_of(path)} & {"hydra", "omegaconf"}
    assert not sees or room_of(path) in MAY_SEE_CONFIGS


def test_no_room_without_a_purpose_in_its_name():
    banned = {"utils", "helpers", "common", "misc"}
    assert not banned & {part for path in modules() for part in path.with_suffix("").parts}


def test_the_command_line_is_light():
    assert not imported_by("import regraft, regraft.cli", [*HEAVY, "numpy"])


def test_a_training_worker_has_no_words_of_the_command_line():
    assert not imported_by(
        "import regraft.verbs.fitting", ["regraft.cli_words", "regraft.comparing", "regraft.handles"]
    )
