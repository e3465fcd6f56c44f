"""The actions of `regraft data` on shards: `pack` writes them, `index` makes their indexes."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from regraft.cli.chosen_data import chosen_data, source_of, split_words
from regraft.config import compose
from regraft.config.quoting import key_of, text_of
from regraft.config.trust import named_in
from regraft.core.console import Console, image_progress_bar
from regraft.core.errors import ConfigError, ConfigErrors, require
from regraft.core.startup import quick_imports
from regraft.core.text import say
from regraft.data.findings import counted

_PACK = "regraft data pack PATH FOLDER [data=table data.path=TABLE] [shard_mb=1000]"
_INDEX = "regraft data index SHARDS... [trust=[pipe]]"
_SHARD_MB = "shard_mb"


def pack(arguments: Sequence[str]) -> None:
    """Writes the images of a data set as shards, and prints the command that trains on them."""
    given = [each for each in arguments if key_of(each) == _SHARD_MB]
    max_mb = _megabytes(given[-1].partition("=")[2]) if given else 1000.0
    words, others = split_words([each for each in arguments if each not in given])
    if not words or (len(words) == 1 and not others):
        raise ConfigError("data pack", "a data set or the folder to write is missing", fix=f"Usage: {_PACK}")
    overrides = chosen_data("data pack", words[:-1], others, f"Usage: {_PACK}")
    folder = Path(words[-1]).expanduser()
    with quick_imports():
        from regraft.data.shards.packing import num_images, require_free
        from regraft.data.shards.packing import pack as write

    require_free(folder)
    trust = named_in(overrides)
    node = compose.plain(compose.compose_once("data_check", overrides, None), overrides)["data"]
    source = source_of(node, trust)
    source.prepare()
    splits = source.splits()
    progress = image_progress_bar(is_shown=Console().is_terminal, title="Packing")
    with progress(num_images(splits)) as count:
        packed = write(splits, folder, max_mb * 1e6, count)
    for split, num in packed.num_samples.items():
        say(f"{split}: {counted(num, 'image')} in {counted(packed.num_shards[split], 'shard')}")
    if splits.skipped:
        say(f"{counted(len(splits.skipped), 'image')} that can't be used left out (data.on_error=skip).")
    keys: dict[str, Any] = {f"data.{key}": value for key, value in packed.keys.items()}
    keys |= {} if splits.task == "classification" else {"task": splits.task}
    options = [f"{key}={text_of(value)}" for key, value in keys.items()]
    say(shlex.join(["regraft", "train", "data=webdataset", f"data.urls={text_of(str(folder))}", *options]))


def _megabytes(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    require(0 < found < float("inf"), _SHARD_MB, text, "a number above 0")
    return found


def index(arguments: Sequence[str]) -> None:
    """Makes the indexes of shards that have none, or one that isn't up to date."""
    words, others = split_words(arguments)
    unknown = [each for each in others if key_of(each) != "trust"]
    if unknown or not words:
        reason = f"{unknown[0]!r} is one word too many" if unknown else "shards are missing"
        raise ConfigError("data index", reason, fix=f"Usage: {_INDEX}")
    from regraft.data.shards.opening import fetch_all, open_indexes
    from regraft.data.shards.urls import shards_of

    started = time.perf_counter()
    given = [f"data.urls={text_of(words)}", *others]
    urls = [url for found in shards_of(words, named_in(given)).values() for url in found]
    fetch_all(urls)
    indexed = open_indexes(urls, image_progress_bar(is_shown=Console().is_terminal, title="Indexing", nouns="MB"))
    num_samples = sum(len(each.lines.splitlines()) for each in indexed.indexes.values())
    num_images = sum(len(each.facts) for each in indexed.indexes.values())
    num_bad = sum(int((each.facts["problem"] != b"").sum()) for each in indexed.indexes.values())
    seconds = time.perf_counter() - started
    say(
        f"{counted(len(urls), 'shard')}, {indexed.num_made:,} indexed now: {counted(num_samples, 'sample')} with "
        f"{counted(num_images, 'image')}, {num_bad:,} of which can't be decoded ({seconds:.1f} s)"
    )
    if refusals := indexed.refusals:
        raise ConfigErrors(refusals)
