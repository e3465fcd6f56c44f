import csv
import time
from collections.abc import Callable
from pathlib import Path

from regraft.core.pixel_format import PixelFormat
from regraft.data.checked import Check
from regraft.data.images.file_reading.read import logged_progress
from regraft.data.images.validation.listed_files import check_listed
from regraft.data.sources.table import TableSource


def check(root: Path, rows: list[tuple[str, str]], task: str = "classification") -> Check:
    with (root / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label"), *rows])
    splits = TableSource(path=str(root / "a.csv"), on_error="skip", task=task).splits()
    return check_listed("a.csv", splits, logged_progress, time.perf_counter(), PixelFormat())


def test_rows_that_cannot_be_used_and_duplicates_are_findings(
    tmp_path: Path, write_photos: Callable[..., None]
) -> None:
    write_photos(tmp_path, 6)
    (tmp_path / "copy.png").write_bytes((tmp_path / "photo000.png").read_bytes())
    (tmp_path / "cut.png").write_bytes((tmp_path / "photo000.png").read_bytes()[:100])
    rows = [(f"photo00{number}.png", "ab"[number % 2]) for number in range(6)]
    found = check(tmp_path, [*rows, ("copy.png", "b"), ("gone.png", "a"), ("cut.png", "a")])
    by_code = {(each.code, each.sentence.partition(":")[2].partition(".")[0]): each for each in found.findings}
    unusable = {item.paths[0] for each in found.findings if each.code == "unusable" for item in each.items}
    assert unusable == {"gone.png", "cut.png"}
    (conflict,) = [each for each in by_code.values() if each.code == "conflicting_labels"]
    assert conflict.items[0].paths == ("photo000.png", "copy.png")
    assert found.counts == {"train": {"a": 3, "b": 4}}
    assert found.num_samples == 9


def test_several_labels_are_compared_as_combinations(tmp_path: Path, write_photos: Callable[..., None]) -> None:
    write_photos(tmp_path, 3)
    (tmp_path / "copy.png").write_bytes((tmp_path / "photo000.png").read_bytes())
    rows = [("photo000.png", "a|b"), ("photo001.png", "a"), ("photo002.png", ""), ("copy.png", "b")]
    found = check(tmp_path, rows, "multilabel")
    (conflict,) = [each for each in found.findings if each.code == "conflicting_labels"]
    assert conflict.items[0].detail == "a|b / b"
    assert found.counts == {"train": {"a": 2, "b": 2}}
    assert (found.what, found.sizes) == (("label", "labels"), {"train": 4})
