"""`regraft predict`: what a run says of images, on the command line and from Python."""

import csv
import errno
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import regraft
from helpers.command_line import run_main
from helpers.small import digits_folder, without
from regraft.data.sources.folder import FolderSource
from regraft.features.store.entry import StoreEntry
from regraft.runs.folder import Run
from regraft.runs.predictions import read


@pytest.fixture(scope="module")
def photo_run(tmp_path_factory) -> Run:
    """A run on photos whose final test read stored features."""
    folder = tmp_path_factory.mktemp("photos")
    digits_folder(folder / "photos", {3: "three", 4: "four"})
    data = ["data=folder", f"data.root={folder / 'photos'}", "data.num_workers=0", "model.image_size=12"]
    store = ["freezing=linear_probe", "features.cache=on", f"features.dir={folder / 'features'}"]
    given = [*without("data", "model.image_size", "freezing"), *data, *store, "trainer.max_epochs=1"]
    return regraft.train([*given, f"output_dir={folder / 'outputs'}"])


@pytest.fixture
def photos(photo_run) -> Path:
    """Some of its photos; its own data is out of the way meanwhile."""
    root = Path(photo_run.config["data"]["root"])
    shutil.copytree(root / "test", "photos")
    shutil.move(root, root.with_name("away"))
    yield Path("photos")
    shutil.move(root.with_name("away"), root)


def predict(capsys, run: Run, *arguments: str) -> tuple[object, str, str]:
    return run_main(["predict", f"run={run.path}", *arguments], capsys)


def test_photos_are_answered_as_in_the_final_test(photo_run, capsys):
    kept = read(photo_run.path, with_probabilities=True)
    root = Path(photo_run.config["data"]["root"])
    source = FolderSource(root=str(root), on_error="raise", splits={}).splits()
    paths = [str(source.test.path(index)) for index in kept.indices]
    Path("list.txt").write_text("\n".join(paths))
    code, _, _ = predict(capsys, photo_run, "input=list.txt", "output=o.csv", "batch_size=5")
    assert code == 0
    with Path("o.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == paths
    assert [row["class"] for row in rows] == [source.class_names[index] for index in kept.predicted]
    found = np.array([float(row["probability"]) for row in rows])
    np.testing.assert_allclose(found, kept.confidences, rtol=1e-4)


def test_a_table_of_few_and_the_training_data_is_not_needed(photo_run, photos, capsys):
    code, out, err = predict(capsys, photo_run, "input=photos/three/*.png")
    assert (code, err) == (0, "")
    assert out.count("photos/three/") == 6
    assert "Images of each class" not in out
    assert all(word in out for word in ("class", "probability", "then"))


def test_of_many_the_first_and_how_many_there_are_of_each_class(photo_run, photos, capsys):
    for number in range(10):
        shutil.copy(next(photos.glob("three/*.png")), photos / f"{number}.png")
    code, out, _ = predict(capsys, photo_run, "input=photos")
    assert code == 0
    assert "... and 2 more images; output=FILE.csv has them all." in out
    assert "Images of each class" in out


def test_bad_images_are_rows_and_the_others_are_predicted(photo_run, photos, capsys):
    (photos / "text.jpg").write_text("not an image")
    (photos / "none.png").write_bytes(b"")
    os.mkfifo(photos / "fifo.jpg")
    code, out, _ = predict(capsys, photo_run, "input=photos", "output=o.jsonl", "tta=ten_crop", "batch_size=20")
    assert code == 0
    assert "3 of 15 images couldn't be predicted:\n  photos/fifo.jpg: not opened (a FIFO)\n" in out
    rows = [json.loads(line) for line in Path("o.jsonl").read_text().splitlines()]
    assert len(rows) == 15
    assert {row["path"]: row["error"] for row in rows if row["error"]} == {
        "photos/fifo.jpg": "not opened (a FIFO)",
        "photos/none.png": "zero bytes",
        "photos/text.jpg": "not an image (looks like text)",
    }


def test_stdout_is_json_lines_and_nothing_else(photo_run, photos, capsys, monkeypatch):
    lines = io.TextIOWrapper(io.BufferedReader(io.BytesIO(b"photos/nowhere.png\nphotos/three/%s\n" % b"x.png")))
    monkeypatch.setattr(sys, "stdin", lines)
    shutil.copy(next(photos.glob("four/*.png")), photos / "three" / "x.png")
    code, out, err = predict(capsys, photo_run, "input=-", "output=-", "top_k=1")
    assert code == 0
    bad, good = map(json.loads, out.splitlines())
    assert bad["error"] == "unreadable (No such file or directory)"
    assert good["path"] == "photos/three/x.png"
    assert len(good["top"]) == 1
    assert "1 of 2 images couldn't be predicted" in err


def test_nothing_predicted_is_an_error_whose_rows_are_kept(photo_run, capsys):
    Path("text.jpg").write_text("not an image")
    code, _, err = predict(capsys, photo_run, "input=text.jpg", "output=o.csv")
    sentence = "the image couldn't be predicted. text.jpg: not an image (looks like text)"
    assert (code, err) == (1, f"regraft: input: {sentence}.\n")
    assert Path("o.csv").read_text().splitlines()[1] == "text.jpg,,,,,not an image (looks like text)"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run=last"], "input: it has no value yet"),
        (["run=last", "text="], "text: it has no value yet"),
        (["input=x.jpg"], "run: it has no value yet"),
        (["run=last", "input=x.jpg", "input=y.jpg"], "input: it is given 2 times"),
        (["run=last", "input=x.jpg", "y.jpg"], "predict: got 'y.jpg'; allowed: regraft predict run="),
        (["run=last", "input=x.jpg", "-m"], "predict: got '-m'"),
        (["run=last", "inptu=x.jpg"], "predict: unknown key 'inptu'. Did you mean 'input'? Allowed: run, ckpt_path, "),
        (["ckpt_path=RUN", "input=x.jpg", "top_k=1", "top_k=2"], "top_k: it is given 2 times. Give it once."),
        (["ckpt_path=RUN", "input=x.jpg", "output=o.json"], "output: got 'o.json'"),
        (["run=nowhere", "input=x.jpg"], "run: got 'nowhere'; there is no run"),
        (["ckpt_path=RUN", "input=x.jpg"], "input: there is no file or folder x.jpg"),
        (["ckpt_path=RUN", "input='trust me.jpg"], "input: there is no file or folder 'trust me.jpg"),
        (["ckpt_path=RUN", "input=.", "tta=flop"], "tta: got 'flop'; allowed: none, flip, five_crop, ten_crop."),
        (["ckpt_path=RUN", "input=.", "top_k=0"], "top_k: got 0; allowed: 1, 2, 3, ..."),
        (["ckpt_path=RUN", "input=.", "batch_size=1.5"], "batch_size: got 1.5"),
        (["ckpt_path=RUN", "input=.", "device=gpux"], "device: got 'gpux'"),
        (["ckpt_path=RUN", "input=.", "device=meta"], "device: got 'meta'"),
        (["ckpt_path=~no.such.user/run", "input=."], "ckpt_path: got '~no.such.user/run'; there is no user"),
        (["ckpt_path=RUN", "input=-"], "input: no path came on stdin"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence, photo_run, capsys, monkeypatch):
    Image.new("L", (8, 8)).save("a.png")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(b""))))
    given = [argument.replace("RUN", str(photo_run.path)) for argument in arguments]
    code, _, err = run_main(["predict", *given], capsys)
    assert code == 1
    assert err.startswith(f"regraft: {sentence}")
    assert err.count("\n") == 1


def test_help_needs_nothing_heavy():
    code = (
        "import sys; from regraft.cli.main import main\n"
        "try: main(['predict', '--help'])\n"
        "finally: print('torch' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "\nusage: regraft predict run=RUN input=" in answer.stdout
    assert answer.stdout.endswith("False\n")


def test_python_takes_whatever_holds_an_image(photo_run, photos):
    model = regraft.load(str(photo_run.path))
    path = next(photos.glob("three/*.png"))
    array = np.asarray(Image.open(path).convert("RGB"))
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
    found = model.predict([str(path), path, Image.open(path), array, tensor, Path("nowhere.png")])
    assert [each.name for each in found] == [str(path), str(path), None, None, None, "nowhere.png"]
    for each in found[:5]:
        np.testing.assert_array_equal(each.probabilities, found[0].probabilities)
        assert each.probabilities.sum() == pytest.approx(1)
        assert each.class_name == each.top[0].class_name == model.class_names[each.probabilities.argmax()]
    assert found[5].error == "unreadable (No such file or directory)"
    assert (found[5].class_name, found[5].probability, found[5].probabilities) == (None, None, None)
    assert len(model.predict("photos")) == 12
    assert len(model.predict(np.stack([array, array]))) == 2
    (alone,) = model.predict(tensor, top_k=1)  # a batch of one is computed by other kernels
    assert [guess.class_name for guess in alone.top] == [found[0].class_name]
    assert alone.probability == pytest.approx(found[0].probability, abs=1e-6)
    assert model.predict([]) == []
    with pytest.raises(ValueError, match="images: got an array of float64"):
        model.predict(array / 255)
    with pytest.raises(FileNotFoundError, match=r"there is no file or folder nowhere\.png"):
        model.predict("nowhere.png")


def test_the_probabilities_of_views_are_averaged(photo_run, photos):
    model = regraft.load(str(photo_run.path))
    path = next(photos.glob("three/*.png"))
    array = np.asarray(Image.open(path).convert("RGB"))
    both = model.predict([array, array[:, ::-1]])
    (found,) = model.predict(array, tta="flip")
    np.testing.assert_allclose(found.probabilities, (both[0].probabilities + both[1].probabilities) / 2, rtol=1e-5)


def test_images_in_memory_are_read_by_a_run_on_arrays(small_run):
    found = regraft.load(str(small_run.path)).predict(Image.new("RGB", (50, 30)))
    assert len(found[0].top) == 5


def rows_of(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def assert_alike(one: str, other: str) -> None:
    for left, right in zip(rows_of(one), rows_of(other), strict=True):
        assert (left["path"], left["class"]) == (right["path"], right["class"])
        assert float(left["probability"] or 0) == pytest.approx(float(right["probability"] or 0), abs=1e-6)


def another_photo(path: str, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def test_features_that_the_store_has_are_read_and_the_others_added(photo_run, photos, capsys):
    another_photo("photos/new.png", seed=1)
    Path("photos/bad.png").write_bytes(b"not an image")
    asked = ("input=photos", "batch_size=5")
    _, out, _ = predict(capsys, photo_run, *asked, "output=first.csv")
    assert "Features of 12 images were read from" in " ".join(out.split())
    _, out, _ = predict(capsys, photo_run, *asked, "output=again.csv")
    assert "Features of 13 images were read from" in " ".join(out.split())
    _, out, _ = predict(capsys, photo_run, *asked, "output=fresh.csv", "features.cache=off")
    assert "Features of" not in out
    assert [row["error"] for row in rows_of("first.csv")].count("") == 13
    assert_alike("first.csv", "fresh.csv")
    assert_alike("again.csv", "fresh.csv")


def test_an_interrupted_prediction_writes_nothing_and_says_that_features_are_kept(
    photo_run, photos, capsys, monkeypatch
):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("regraft.deployment.predict.pipeline._predict_some", stop)
    code, _, err = run_main(["predict", f"run={photo_run.path}", "input=photos", "output=all.csv"], capsys)
    assert code == 130
    assert err.splitlines()[-1].startswith("Stopped. The same command goes on")
    assert not Path("all.csv").exists()


def test_a_changed_picture_or_a_damaged_store_is_computed_anew(photo_run, capsys):
    store = ("features.cache=on", "features.dir=store", "input=one.png")
    another_photo("one.png", seed=2)
    predict(capsys, photo_run, *store, "output=one.csv")
    another_photo("one.png", seed=3)
    predict(capsys, photo_run, *store, "output=two.csv")
    assert rows_of("one.csv")[0]["probability"] != rows_of("two.csv")[0]["probability"]
    (segment,) = Path("store").glob("*/*.safetensors")  # small ones are merged
    segment.write_bytes(segment.read_bytes()[:-4])
    _, out, _ = predict(capsys, photo_run, *store, "output=three.csv")
    assert "Features of" not in out
    assert_alike("two.csv", "three.csv")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tta=flip"], "only the view of tta=none is stored; got tta=flip."),
        ([], "the run trained every stage, or all that is worth storing."),
    ],
)
def test_features_that_are_insisted_on_and_cant_be_are_refused(photo_run, tmp_path, capsys, overrides, message):
    another_photo("one.png", seed=2)
    run = photo_run
    if not overrides:
        digits_folder(tmp_path / "photos", {3: "three", 4: "four"})
        data = ["data=folder", f"data.root={tmp_path / 'photos'}", "data.num_workers=0", "model.image_size=12"]
        run = regraft.train([*without("data", "model.image_size", "freezing"), *data, "freezing=none"])
    code, _, err = predict(capsys, run, "input=one.png", "features.cache=on", *overrides)
    assert code == 1
    assert f"features.cache: got 'on'; {message}" in " ".join(err.split())
    assert predict(capsys, run, "input=one.png", *overrides)[0] == 0


def test_a_store_that_is_none_is_left_alone_unless_it_is_insisted_on(photo_run, capsys):
    another_photo("one.png", seed=4)
    Path("store").write_text("a file")
    asked = ("input=one.png", "features.dir=store")
    code, _, err = predict(capsys, photo_run, *asked, "features.cache=on")
    assert code == 1
    assert "features.cache: got 'on'; nothing can be kept in" in " ".join(err.split())
    assert predict(capsys, photo_run, *asked, "output=a.csv")[0] == 0
    predict(capsys, photo_run, *asked, "features.cache=off", "output=b.csv")
    assert_alike("a.csv", "b.csv")


def test_a_store_that_is_full_by_then_keeps_nothing_and_predicts_all_the_same(photo_run, capsys, monkeypatch, caplog):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    another_photo("one.png", seed=5)
    monkeypatch.setattr(StoreEntry, "append", full)
    asked = ("input=one.png", "features.cache=on", "features.dir=store")
    assert predict(capsys, photo_run, *asked, "output=a.csv")[0] == 0
    assert "Those of the images aren't kept." in caplog.text
    predict(capsys, photo_run, "input=one.png", "features.cache=off", "output=b.csv")
    assert_alike("a.csv", "b.csv")
