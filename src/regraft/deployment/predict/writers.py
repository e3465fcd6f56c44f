"""Writes predictions as CSV, JSON lines or Parquet, as they come, so that they are never all in memory."""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from regraft.core.atomic import atomically
from regraft.core.errors import ConfigError
from regraft.core.text import write_csv
from regraft.deployment.predict.layouts import Layout
from regraft.deployment.predict.results import Prediction

STDOUT = "-"
_ROWS_A_GROUP = 8_192

Write = Callable[[Sequence[Prediction]], None]
"""Adds predictions to a file."""


def require_output(output: str) -> None:
    """Checks `output=` before any prediction is made: a file's name with a known extension, or `-` for JSON lines."""
    path = Path(output).expanduser()
    if output != STDOUT and path.suffix.lower() not in _FORMATS:
        allowed = f"a name that ends in {', '.join(_FORMATS)}, or - for JSON lines on stdout"
        raise ConfigError("output", got=output, allowed=allowed)
    if path.is_dir():
        raise ConfigError("output", f"{output} is a folder", fix="Give a file in it.")
    if path.suffix.lower() == ".parquet" and find_spec("pyarrow") is None:
        fix = "Run pip install 'regraft[parquet]', or use output=FILE.csv."
        raise ConfigError("output", "Parquet needs pyarrow", fix=fix)


@contextmanager
def writing(path: Path, layout: Layout) -> Iterator[Write]:
    """Opens a file for predictions, which replaces an earlier one at the end of the block."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomically(path) as file, _FORMATS[path.suffix.lower()](file, layout) as write:
            yield write
    except BrokenPipeError:  # of the terminal's output
        raise
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError("output", f"can't write {path} ({reason})", fix="Name another folder.") from error


def write_lines(file: IO[bytes], layout: Layout, predictions: Sequence[Prediction]) -> None:
    """Writes a JSON line for each prediction."""
    lines = [_json_line(layout.fields(prediction)) for prediction in predictions]
    file.write("".join(lines).encode())
    file.flush()


def _json_line(fields: dict[str, Any]) -> str:
    line = json.dumps(fields, ensure_ascii=False)
    if not line.isprintable():  # characters from 0x7f on that control a terminal aren't escaped by JSON
        line = "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in line)
    return line + "\n"


@contextmanager
def _json_lines(file: IO[bytes], layout: Layout) -> Iterator[Write]:
    yield lambda predictions: write_lines(file, layout, predictions)


@contextmanager
def _csv(file: IO[bytes], layout: Layout) -> Iterator[Write]:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    write_csv(text, [list(layout.columns)])
    yield lambda predictions: write_csv(text, [layout.row(prediction) for prediction in predictions])
    text.detach()


@contextmanager
def _parquet(file: IO[bytes], layout: Layout) -> Iterator[Write]:
    import pyarrow
    from pyarrow import parquet

    kinds = [pyarrow.float32() if is_number else pyarrow.string() for is_number in layout.columns.values()]
    schema = pyarrow.schema(list(zip(layout.columns, kinds, strict=True)))
    rows: list[Sequence[Any]] = []

    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:

        def flush() -> None:
            columns = [list(column) for column in zip(*rows, strict=True)]
            arrays = [pyarrow.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))
            rows.clear()

        def write(predictions: Sequence[Prediction]) -> None:
            rows.extend(layout.row(prediction) for prediction in predictions)
            if len(rows) >= _ROWS_A_GROUP:
                flush()

        yield write
        if rows:
            flush()


_FORMATS: dict[str, Callable[[IO[bytes], Layout], AbstractContextManager[Write]]] = {
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}
