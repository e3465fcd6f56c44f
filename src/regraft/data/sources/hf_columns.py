"""The columns of a data set of Hugging Face's `datasets` library, read in batches, and which of them hold images."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from regraft.core.errors import ConfigError
from regraft.data.images.file_reading.kinds import is_image

BATCH = 1_000
"""Rows that are read at once."""


class Columns:
    """Some columns of a data set on disk, in batches."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def batches(self, names: Sequence[str], **features: Any) -> Iterator[Mapping[str, list[Any]]]:
        """Yields the values of some columns, of which some are cast to other features, by name."""
        yield from _cast(self.dataset.select_columns(list(names)), features).iter(BATCH)

    @property
    def state(self) -> str:
        """Describes the data set, and the files that hold it."""
        # The fingerprint is what the data set says of itself, so the state of its files counts, too.
        files = [Path(each["filename"]) for each in self.dataset.cache_files]
        return repr([self.dataset._fingerprint, *map(_state, files)])


class StreamedColumns(Columns):
    """Some columns of a split of Parquet files, of which nothing else is read or copied."""

    def __init__(self, dataset: Any, path: Path, split: str) -> None:
        super().__init__(dataset)
        self._path, self._split = path, split

    def batches(self, names: Sequence[str], **features: Any) -> Iterator[Mapping[str, list[Any]]]:
        """Yields the values of some columns; raises ConfigError where a file is damaged."""
        try:
            yield from _cast(streamed(self._path, columns=list(names))[self._split], features).iter(BATCH)
        except ConfigError:
            raise
        except Exception as error:  # its readers raise nearly anything
            raise unreadable(self._path, error) from error

    @property
    def state(self) -> str:
        """Describes the files and the split."""
        files = [self._path] if self._path.is_file() else sorted(self._path.rglob("*.parquet"))
        return repr([self._split, *((str(file), *_state(file)) for file in files)])


def streamed(path: Path, **options: Any) -> Any:
    """Returns Parquet files as streams, by split."""
    import datasets

    if path.is_file():
        return datasets.load_dataset("parquet", data_files=str(path), streaming=True, **options)
    return datasets.load_dataset(str(path), streaming=True, **options)


def _cast(dataset: Any, features: Mapping[str, Any]) -> Any:
    for name, feature in features.items():
        dataset = dataset.cast_column(name, feature)
    return dataset


def _state(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def unreadable(path: Path, error: Exception) -> ConfigError:
    """Returns the error of a file or folder that `datasets` can't read."""
    reason = f"`datasets` can't read it ({first_line(error)})"
    return ConfigError("data.path", reason, got=str(path), fix="Copy or save it again.")


def images_in(columns: Columns) -> list[str]:
    """Returns the columns that are declared as images, or else those that begin with the bytes of an image."""
    import datasets

    found = [name for name, feature in columns.dataset.features.items() if isinstance(feature, datasets.Image)]
    return found or [name for name in bytes_in(columns) if is_image(_first_bytes(columns, name))]


def bytes_in(columns: Columns) -> list[str]:
    """Returns the columns of bytes, as Parquet files of other programs have images, with or without their paths."""
    import datasets

    binary = datasets.Value("binary"), datasets.Value("large_binary")
    return [
        name
        for name, feature in columns.dataset.features.items()
        if feature in binary
        or (isinstance(feature, dict) and feature.keys() == {"bytes", "path"} and feature["bytes"] in binary)
    ]


def _first_bytes(columns: Columns, name: str) -> bytes:
    batch = next(iter(columns.batches([name])), {name: []})
    contents = (value["bytes"] if isinstance(value, dict) else value for value in batch[name])
    return next(filter(None, contents), b"")


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message."""
    return (str(error).splitlines() or [""])[0]
