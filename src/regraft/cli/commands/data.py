"""Find what is wrong with a data set, or write it as shards: regraft data check PATH, data pack PATH FOLDER.

A check shows a table, and writes a JSON file and a page with thumbnails.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from regraft.cli.chosen_data import chosen_data, source_of, split_words
from regraft.cli.command import Command
from regraft.cli.hydra_app import run_app
from regraft.config.check import folder_error
from regraft.config.compose import plain
from regraft.config.hydra_messages import MISTAKES, mistakes_in
from regraft.core.console import Console
from regraft.core.errors import ConfigError, ConfigErrors, unknown
from regraft.core.text import say
from regraft.runs.arguments import output_dir

if TYPE_CHECKING:
    from regraft.core.pixel_format import PixelFormat
    from regraft.data.checked import Check
    from regraft.data.sources.base import Splits
    from regraft.data.sources.tree import Tree
    from regraft.report.data_check import OpenImage

_USAGE = """regraft data check PATH | data=folder data.root=PATH | data=cifar10 [output_dir=PATH]
       regraft data pack PATH FOLDER [data=table data.path=TABLE] [shard_mb=1000]
       regraft data index SHARDS"""
_USE = "Usage: regraft data check PATH, or data=cifar10, for example"
_ACTIONS = ("check", "index", "pack")


def run(arguments: list[str]) -> None:
    """Checks a data set, writes it as shards, or indexes shards."""
    word = arguments[0] if arguments else ""
    if {"--help", "-h"} & {*arguments} and word != "check":
        say(f"usage: {_USAGE}")
        return None
    if word not in _ACTIONS:
        what = "an action is missing" if not word or "=" in word else unknown("word", word, _ACTIONS)
        raise ConfigError("data", what, fix=f"Usage: {_USAGE}")
    if word != "check":
        from regraft.cli import shards

        return shards.index(arguments[1:]) if word == "index" else shards.pack(arguments[1:])
    faults: list[ConfigError | None] = []
    run_app(COMMAND, to_check(arguments), lambda config: faults.append(data_check_job(config)))
    for fault in filter(None, faults):
        raise fault
    return None


def to_check(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments of `regraft data check` for Hydra, with the path as `data.root`."""
    if {"-m", "--multirun"} & set(arguments):
        raise ConfigError("data check", "it looks at one data set at a time", fix="Leave -m out.")
    words, others = split_words(arguments[1:])
    # The default of a training would be checked, which nobody means who stands in a folder of photos.
    if not words and not any(word.startswith(("-", "data")) for word in others):
        raise ConfigError("data check", "no data is named", fix=_USE)
    found = chosen_data("data check", words, others, _USE)
    error = folder_error(Path(output_dir(arguments)).absolute(), "output_dir")
    if error is not None:
        raise error
    return found


def data_check_job(composed: DictConfig) -> ConfigError | None:
    """Checks the data of a composed config and reports the findings; returns an error if some are errors."""
    from regraft.data.findings import counted
    from regraft.report import data_check

    folder = Path(HydraConfig.get().runtime.output_dir).resolve()
    try:
        config = plain(composed, list(HydraConfig.get().overrides.task))
        check, open_image = _checked(config["data"], config["trust"])
    except MISTAKES as error:
        raise ConfigErrors(mistakes_in(error)) from error
    data_check.write(check, folder, open_image)
    data_check.show(check, folder)
    num_errors = check.num("error")
    if not num_errors:
        return None
    return ConfigError("data", f"{counted(num_errors, 'error')} in {check.place}; see {folder}/report.html")


def _checked(node: dict[str, Any], trust: Sequence[str]) -> "tuple[Check, OpenImage]":
    """Returns the findings, and the function that opens an image of a finding.

    Args:
        trust: what the command line trusts.
    """
    source = source_of(node, trust, on_error="skip")  # what it would refuse is listed
    started = time.perf_counter()
    source.prepare()
    name = str(node["_target_"]).rpartition(".")[2].removesuffix("Source")
    place = str(node.get("path") or node.get("root") or node.get("urls") or name)
    tree: Tree | None = source.tree() if hasattr(source, "tree") else None
    if tree is not None and tree.kind.noun == "image":
        return _checked_folder(tree, node, started)
    if tree is not None and tree.errors:
        from regraft.data.checked import finished_check

        check = finished_check(place, {}, tree.errors, 0, 0, started)
        return replace(check, noun=tree.kind.noun), _not_an_image
    found = source.splits()
    return _OF_KINDS[found.train.kind](place, found, node, started)


def _checked_folder(tree: "Tree", node: Mapping[str, Any], started: float) -> "tuple[Check, OpenImage]":
    from regraft.core.console import image_progress_bar
    from regraft.data.images.file_reading.facts import display_image
    from regraft.data.images.validation.check import check_tree
    from regraft.report import data_check

    shown, progress = _pixel_format(node), image_progress_bar(is_shown=Console().is_terminal, title="Reading")
    return check_tree(tree, progress, started, shown), lambda path: display_image(
        tree.root / path, data_check.SIDE, shown
    )


def _checked_images(place: str, splits: "Splits", node: Mapping[str, Any], started: float) -> "tuple[Check, OpenImage]":
    from regraft.core.console import image_progress_bar
    from regraft.data.images.file_reading.facts import display_image
    from regraft.data.images.samples import FileImages
    from regraft.data.images.validation.check import check_samples
    from regraft.data.images.validation.in_memory import image_of, samples_of, splits_of
    from regraft.data.images.validation.listed_files import check_listed, finder_of
    from regraft.report import data_check

    if isinstance(splits.train, FileImages):
        shown, progress = _pixel_format(node), image_progress_bar(is_shown=Console().is_terminal, title="Reading")
        find = finder_of(splits)
        return check_listed(place, splits, progress, started, shown), lambda path: display_image(
            find(path), data_check.SIDE, shown
        )
    arrays = splits_of(splits)
    return check_samples(place, samples_of(splits.class_names, arrays), started), partial(image_of, arrays)


def _checked_texts(place: str, splits: "Splits", node: Mapping[str, Any], started: float) -> "tuple[Check, OpenImage]":
    from regraft.data.text.validation.check import check_texts

    return check_texts(place, splits, started), _not_an_image


def _not_an_image(path: str) -> Any:
    raise AssertionError("findings about texts show no images")


_OF_KINDS = {"image": _checked_images, "text": _checked_texts}


def _pixel_format(node: Mapping[str, Any]) -> "PixelFormat":
    from regraft.core.pixel_format import PixelFormat

    return PixelFormat(background=node["background"], value_range=node["value_range"])


COMMAND = Command(name="data", run=run, usage=_USAGE, config_name="data_check", words=lambda: _ACTIONS)
