import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.command_line import imported_by, run_main
from helpers.planted import bomb, encoded, many_scans, photo, write
from regraft.cli.commands.data import to_check
from regraft.config.quoting import quoted

EVIL = '<img src=x onerror="alert(1)">&'


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A folder with a fault of every kind."""
    root = tmp_path_factory.mktemp("planted")
    for split, class_name, seeds in (
        *(("train", "ant", range(12)), ("train", "bee", range(20, 23)), ("train", "Ant", [30]), ("train", EVIL, [31])),
        *(("val", "ant", range(40, 44)), ("val", "bee", range(50, 52)), ("val", "cow", [60])),
    ):
        for seed in seeds:
            write(root / split / class_name / f"{seed}.png", encoded(photo(seed, 96, 80), "PNG"))
    ant, png = root / "train" / "ant", encoded(photo(0, 96, 80), "PNG")
    write(ant / "zero.jpg", b"")
    write(ant / "cut.png", png[:300])
    write(ant / "page.jpg", b"<html>")
    write(ant / "bomb.png", bomb(20_000, 20_000))
    write(ant / "misnamed.jpg", encoded(photo(70), "PNG"))
    write(ant / "animated.webp", encoded(photo(71), "WEBP", save_all=True, append_images=[photo(72)]))
    write(ant / "cmyk.jpg", encoded(photo(73).convert("CMYK"), "JPEG"))
    write(ant / "gray.png", encoded(photo(74).convert("L"), "PNG"))
    write(ant / "palette.png", encoded(photo(75).convert("P"), "PNG"))
    half = photo(76).convert("RGBA")
    half.putalpha(128)
    write(ant / "transparent.png", encoded(half, "PNG"))
    drawing, ghost = Image.new("RGBA", (40, 40), (0, 0, 0, 0)), Image.new("RGBA", (40, 40), (255, 255, 255, 0))
    drawing.paste((0, 0, 0, 255), (10, 10, 20, 30))
    ghost.paste((255, 255, 255, 255), (10, 10, 25, 30))
    write(ant / "drawing.png", encoded(drawing, "PNG"))
    write(ant / "ghost.png", encoded(ghost, "PNG"))
    write(ant / "slow.jpg", many_scans(200))
    exif = photo(77).getexif()
    exif[0x0112] = 6
    write(ant / "rotated.jpg", encoded(photo(77), "JPEG", exif=exif))
    write(ant / "photo.jpeg_large", encoded(photo(78), "JPEG"))
    write(ant / f"{'long' * 40}.png", encoded(photo(79), "PNG"))
    write(ant / "ünï 文.png", encoded(photo(80), "PNG"))
    Image.fromarray(np.zeros((8, 8), np.float32)).save(ant / "float.tif")
    for seed, name in ((61, "east"), (62, "west")):
        write(root / "val" / "cow" / name / "1.png", encoded(photo(seed), "PNG"))
    (root / "val" / "cow" / "60.png").unlink()
    write(ant / os.fsdecode(b"caf\xe9.png"), encoded(photo(81), "PNG"))
    write(root / "val" / "ant" / "leaked.png", png)
    write(root / "val" / "ant" / "near.jpg", encoded(photo(1, 96, 80).resize((48, 40)), "JPEG"))
    write(root / "train" / "bee" / "contradicts.png", encoded(photo(2, 96, 80), "PNG"))
    write(ant / "again.png", encoded(photo(3, 96, 80), "PNG"))
    write(root / "train" / "__pycache__" / "x.png", png)
    write(root / "train" / "stray.png", png)
    (root / "train" / "empty").mkdir()
    (ant / "loop").symlink_to(root)
    (ant / "out.png").symlink_to(write(tmp_path_factory.mktemp("pool") / "x.png", encoded(photo(82), "PNG")))
    os.mkfifo(ant / "pipe.jpg")
    return root


@pytest.fixture(scope="module")
def answer(planted, tmp_path_factory):
    """What the command says of it, in a process of its own: exit code, output, the report's folder."""
    folder = tmp_path_factory.mktemp("reports")
    words = ["data", "check", "data=folder", f"data.root={planted}", f"output_dir={folder}"]
    environment = {**os.environ, "REGRAFT_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "regraft", *words], capture_output=True, text=True, env=environment, timeout=60
    )
    [report] = folder.glob("checks/*/report.json")
    return done, report.parent


def test_every_fault_is_found(answer):
    found = {finding["code"]: finding for finding in json.loads((answer[1] / "report.json").read_text())["findings"]}
    files = {code: sorted(finding["files"]) for code, finding in found.items()}
    ant = "train/ant/"
    expected = {
        "empty_class": ["train/empty"],
        "class_sets": ["cow"],
        "class_lacking": sorted(["Ant", EVIL, "empty"]),
        "empty": [f"{ant}zero.jpg"],
        "truncated": [f"{ant}cut.png"],
        "not_image": [f"{ant}page.jpg"],
        "bomb": [f"{ant}bomb.png"],
        "unknown_range": [f"{ant}float.tif"],
        "nested_class": ["val/cow"],
        "closed": [f"{ant}pipe.jpg"],
        "conflicting_labels": [f"{ant}2.png", "train/bee/contradicts.png"],
        "duplicates_across_splits": [f"{ant}0.png", "val/ant/leaked.png"],
        "near_duplicates_across_splits": [f"{ant}1.png", "val/ant/near.jpg"],
        "duplicates": [f"{ant}3.png", f"{ant}again.png"],
        "wrong_extension": [f"{ant}misnamed.jpg"],
        "animated": [f"{ant}animated.webp"],
        "cmyk": [f"{ant}cmyk.jpg"],
        "gray": [f"{ant}gray.png"],
        "palette": [f"{ant}palette.png"],
        "transparent": [f"{ant}drawing.png", f"{ant}ghost.png", f"{ant}transparent.png"],
        "shape_only": [f"{ant}drawing.png"],
        "vanishing": [f"{ant}ghost.png"],
        "costly": [f"{ant}slow.jpg"],
        "rotated": [f"{ant}rotated.jpg"],
        "image_without_extension": [f"{ant}photo.jpeg_large"],
        "long_name": [f"{ant}{'long' * 40}.png"],
        "unicode_name": sorted([f"{ant}ünï 文.png", f"{ant}caf\udce9.png"]),
        "odd_name": [f"{ant}caf\udce9.png"],
        "names_alike": ["train/Ant", "train/ant"],
        "hidden": ["train/__pycache__"],
        "stray": ["train/stray.png"],
        "loop": [f"{ant}loop"],
        "link_leaves_root": [f"{ant}out.png"],
        "tiny_class": sorted(["Ant", EVIL, "bee"]),
        "imbalance": [],
    }
    assert {code: files.get(code) for code in expected} == expected
    assert "data.sampler=balanced" in found["imbalance"]["sentence"]
    assert found["bomb"]["severity"] == "error"


def test_errors_end_the_command_with_1_and_one_sentence(answer, planted):
    done, folder = answer
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"errors in {planted}; see {folder}" in done.stderr
    assert str(folder / "report.html") in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert not (folder / "traceback.txt").exists()


def test_the_page_shows_names_as_text_and_needs_nothing_else(answer):
    page = (answer[1] / "report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
    assert page.count('src="data:image/webp;base64,') > 10
    assert page.count("<img ") == page.count(' alt="')


def test_a_sound_folder_has_no_finding_and_a_second_look_reads_nothing(tmp_path, capsys):
    for number in range(20):
        path = write(tmp_path / "photos" / "ab"[number % 2] / f"{number}.png", encoded(photo(number), "PNG"))
        os.utime(path, (1_500_000_000, 1_500_000_000))
    words = ["data", "check", "photos"]
    code, out, err = run_main(words, capsys)
    assert (code, err) == (0, "")
    assert "0 errors, 0 warnings, 0 notes in 20 images (all read;" in out
    assert "(0 read, 20 unchanged since an earlier check;" in run_main(words, capsys)[1]


def test_warnings_alone_are_no_failure(tmp_path, capsys):
    for number in range(4):
        write(tmp_path / "photos" / "ab"[number % 2] / f"{number}.png", encoded(photo(number), "PNG"))
    code, out, err = run_main(["data", "check", "data=folder", "data.root=photos"], capsys)
    assert (code, err) == (0, "")
    assert "2 classes have fewer than 10 training images" in out


def test_images_in_memory_are_checked_too(capsys):
    code, out, _ = run_main(["data", "check", "data=digits"], capsys)
    assert code == 0
    assert "1,797 images" in out
    assert "nearly the same" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "data: an action is missing. Usage: regraft data check"),
        (["chekc"], "unknown word 'chekc'. Did you mean 'check'?"),
        (["check", "data=folder"], "data.root: it has no value yet"),
        (["check", "data=folder", "data.root=nowhere"], "data.root: there is no folder"),
        (["check", "data=folder", "data.root=.", "data.on_error=x"], "data.on_error: got 'x'; allowed: raise, skip"),
        (["check", "data=folder", "data.root=.", "+data.rot=x"], "data.rot: unknown key 'rot'. Did you mean 'root'?"),
        (["check", "data=folder", "data.root=.", "model=resnet18"], "model: a data check looks at data alone."),
        (["check", "a", "b"], "'b' is one word too many"),
        (["check", "a", "data=digits"], "'a' is one word too many"),
        (["check", "a", "output_dir=/proc/nowhere"], "output_dir: nothing can be written to /proc/nowhere"),
        (["check", "-m", "data=digits,cifar10"], "Leave -m out"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence, capsys):
    code, _, err = run_main(["data", *arguments], capsys)
    assert code == 1
    assert not list(Path("outputs").rglob("*"))
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["data of mine", "sp ace=x", "model=x"])
def test_a_folder_may_have_any_name(name, tmp_path):
    (tmp_path / name).mkdir()
    assert to_check(["check", name]) == ["data=folder", f"data.root='{name}'"]


def test_a_table_is_one_word_and_may_have_a_root(tmp_path):
    table = tmp_path / "labels.csv"
    table.touch()
    words = to_check(["check", str(table), "data.root=photos"])
    assert words == ["data=table", f"data.path={quoted(table)}", "data.root=photos"]
    assert to_check(["check", str(table), "task=multilabel"])[-1] == "task.name=multilabel"
    assert to_check(["check", "gone.csv"])[0] == "data=table"
    with pytest.raises(ValueError, match="is one word too many"):
        to_check(["check", str(table), "data.path=other.csv"])


def test_a_folder_is_checked_without_torch(tmp_path):
    write(tmp_path / "photos" / "a" / "1.png", encoded(photo(1), "PNG"))
    code = "from regraft.cli.main import main\ntry: main(['data', 'check', 'photos'])\nexcept SystemExit: pass"
    assert not imported_by(code, ["torch", "pytorch_lightning"])


def test_names_that_the_terminal_cannot_show_or_must_not_obey_are_escaped(tmp_path):
    for name in ("\U0001f436", "\x1b[31mcat"):
        write(tmp_path / "photos" / name / "0.png", encoded(photo(len(name)), "PNG"))
    words = ["data", "check", str(tmp_path / "photos"), f"output_dir={tmp_path}"]
    environment = {**os.environ, "REGRAFT_CACHE": str(tmp_path / "cache"), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-m", "regraft", *words], capture_output=True, env=environment, timeout=60)

    assert done.stderr == b""
    assert rb"\U0001f436" in done.stdout
    assert rb"\x1b[31mcat" in done.stdout


def test_a_table_of_texts_is_known_by_its_columns(tmp_path):
    for header, data in (("text,label", "text_table"), ("image,label", "table"), ("id,title", "text_table")):
        path = tmp_path / f"{header.replace(',', '_')}.csv"
        path.write_text(f"{header}\na,b\n")
        assert to_check(["check", str(path)])[0] == f"data={data}"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["check"], "data check: no data is named. Usage: regraft data check PATH, or data=cifar10, for example"),
        (["index"], "data index: shards are missing. Usage: regraft data index"),
        (["index", "a.tar", "data.urls=b.tar"], "data index: 'data.urls=b.tar' is one word too many"),
        (["index", "a.tar", "b.tar"], "data.urls: 2 of 2 shards can't be found: a.tar; b.tar"),
        (["pack", "photos"], "data pack: a data set or the folder to write is missing"),
        (["pack", "photos", "out", "shard_mb=0"], "shard_mb: got '0'; allowed: a number above 0"),
        (["pack", "photos", "model=resnet18", "out"], "model: a data pack looks at data alone"),
        (["pack", "photos", "."], "data pack: it can't be the current folder"),
        (["pack", "photos", "out"], "data.root: there is no folder"),
        (["pack", "data=digits", "out"], "data pack: these images are in memory"),
    ],
)
def test_mistakes_in_packing_and_indexing(arguments, sentence, capsys):
    Path("a.txt").touch()
    code, _, error = run_main(["data", *arguments], capsys)
    assert code == 1
    assert sentence in error
    assert not Path("out").exists()


def test_the_usage_of_packing_and_indexing(capsys):
    assert "regraft data index SHARDS" in run_main(["data", "pack", "--help"], capsys)[1]
