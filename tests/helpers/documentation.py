"""The code blocks of the documentation: found in Markdown, and run one after the other as a reader would."""

import importlib
import os
import re
import runpy
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from regraft.cli.main import main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)]
_FENCE = re.compile(r"^(?P<ticks>`{3,})(?P<directive>\{code-block\} *)?(?P<language>[\w{}-]*) *$")
_MARK = re.compile(r"^<!-- test: (.+) -->$")
_CAPTION = re.compile(r"^:caption: *(.+)$")
_SHELL = re.compile(r"[|&;<>$`]")

SMALLER = {
    "trainer": "cpu",
    "trainer.max_epochs": "2",
    "trainer.enable_progress_bar": "false",
    "model.image_size": "32",
    "data.num_workers": "0",
}
"""What each training of the pages gets where the page doesn't set it, so that it takes about a second."""
DOWNLOADED = ("resnet18", "resnet50", "timm", "torchvision", "vit_b_16")
"""Models that are trained from scratch here, because their weights would be downloaded."""
OF_TEXTS = ("minilm", "lstm", "transformers")
"""Models of texts, which have no image size."""


@dataclass(frozen=True)
class Block:
    """One fenced block of a page.

    Attributes:
        page: the page, relative to the repository.
        line: the number of its first line.
        language: bash, python, yaml, text, ...
        text: what stands between the fences.
        file: the name under which the reader saves it; None if it isn't a file.
        mark: the comment above it that says how the tests treat it: `slow`, `exits with N`, `not run, REASON`.
    """

    page: str
    line: int
    language: str
    text: str
    file: str | None
    mark: str

    @property
    def is_run(self) -> bool:
        return self.file is not None or self.language in ("bash", "python")

    @property
    def not_run(self) -> str | None:
        """Why the block isn't run."""
        return self.mark.removeprefix("not run, ") if self.mark.startswith("not run, ") else None

    @property
    def exit_code(self) -> int:
        return int(self.mark.removeprefix("exits with ")) if self.mark.startswith("exits with ") else 0

    @property
    def first_line(self) -> str:
        return self.text.split("\n", 1)[0]

    @property
    def commands(self) -> list[str]:
        """The block's commands, each on one line, without comments."""
        lines = self.text.replace("\\\n", " ").split("\n")
        return [line.strip() for line in lines if shlex.split(line, comments=True)]


def blocks_of(path: Path) -> list[Block]:
    """Returns the fenced blocks of a page in order."""
    found: list[Block] = []
    lines = path.read_text(encoding="utf-8").split("\n")
    number = 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if fence is None:
            number += 1
            continue
        start = number + 1
        number = lines.index(fence["ticks"], start)
        content = lines[start:number]
        file = None
        if fence["directive"] and content and (caption := _CAPTION.match(content[0])):
            file, content = caption[1], content[1:]
        mark = _MARK.match(lines[start - 2]) if start > 1 else None
        page = path.relative_to(ROOT).as_posix()
        text = "\n".join(content).strip("\n")
        found.append(Block(page, start, fence["language"], text, file, mark[1] if mark else ""))
        number += 1
    return found


class Reader:
    """Follows a page: saves its files, and runs its commands and Python blocks in the current folder."""

    def __init__(self) -> None:
        self._names: dict[str, Any] = {"__name__": "__main__"}
        _take_photos(Path("photos"), seed=0)
        _take_photos(Path("photos_of_another_camera"), seed=1)
        Path("photo.jpg").write_bytes(Path("photos/ants/0.jpg").read_bytes())

    def follow(self, block: Block) -> None:
        if block.not_run is not None:
            return
        if block.file is not None:
            self._save(Path(block.file), block.text + "\n")
        elif block.language == "python":
            if str(Path.cwd()) not in sys.path:  # as for a script in this folder
                sys.path.insert(0, str(Path.cwd()))
            code = "\n" * block.line + block.text
            exec(compile(code, block.page, "exec"), self._names)
        elif block.language == "bash":
            for command in block.commands:
                self._run(command, block)

    def _save(self, path: Path, text: str) -> None:
        """Writes a file; one of a package of ours becomes a part of it, and the tests in one of tests are called."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if path.parts[0] == "src":
            package = importlib.import_module(".".join(path.parent.parts[1:]))
            package.__path__.append(str(path.parent.resolve()))
        elif path.parts[0] == "tests":
            for name, test in runpy.run_path(str(path)).items():
                if name.startswith("test_"):
                    test()

    def _run(self, command: str, block: Block) -> None:
        words = shlex.split(command, comments=True)
        if words[0] == "regraft" and not _SHELL.search(re.sub(r"'[^']*'|#.*", "", command)):
            try:
                main(smaller(words[1:]))
            except SystemExit as error:
                code = error.code
        else:
            code = _in_a_shell(command)
        assert code == block.exit_code, f"{block.page}:{block.line}: {command} exits with {code}"


def smaller(words: list[str]) -> list[str]:
    """Returns a command's words, with what makes a training small unless the page sets it."""
    if words[0] not in ("train", "probe") or "--help" in words or "--cfg" in words:
        return words
    given = dict(word.split("=", 1) for word in words if "=" in word)
    smaller = SMALLER | {"model.max_length": "16"} if given.get("model") in OF_TEXTS else SMALLER
    others = {"model.image_size"} if given.get("model") in OF_TEXTS else set()
    added = {key: value for key, value in smaller.items() if key not in given and key not in others}
    if given.get("data", "digits") == "digits":
        added |= {"data.test_fraction": "0.05"} if "data.test_fraction" not in given else {}
        added |= {"data.fraction": "0.1"} if not {"data.shots", "data.fraction", "grid.shots"} & set(given) else {}
    if given.get("model") in DOWNLOADED and "model.weights" not in given:
        added["model.weights"] = "null"
    return [*words, *(f"{key}={value}" for key, value in added.items())]


def _in_a_shell(command: str) -> int:
    bin_folder = Path("bin")
    bin_folder.mkdir(exist_ok=True)
    regraft = bin_folder / "regraft"
    regraft.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m regraft "$@"\n')
    regraft.chmod(0o755)
    path = os.pathsep.join([str(bin_folder.resolve()), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(["bash", "-euo", "pipefail", "-c", command], env=environment, check=False).returncode


def _take_photos(root: Path, seed: int) -> None:
    """Writes 16 photos of each of two classes that can be told apart by their color."""
    generator = np.random.default_rng(seed)
    for name, color in (("ants", (160, 60, 40)), ("bees", (40, 120, 200))):
        (root / name).mkdir(parents=True)
        for index in range(16):
            pixels = generator.normal(color, 50, (48, 64, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.jpg")
