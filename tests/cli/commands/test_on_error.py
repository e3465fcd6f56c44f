import json

import pytest

import regraft
from helpers.planted import encoded, photo, write
from helpers.small import without

TRAINING = [*without("data"), "data=folder", "data.root=photos", "data.num_workers=0", "trainer.max_epochs=1"]
SKIPPED = {"ant/cut.png": "truncated", "bee/empty.jpg": "zero bytes"}


@pytest.fixture
def photos(tmp_path):
    """A folder of two classes, with a damaged image in each."""
    for name, start in (("ant", 0), ("bee", 100)):
        for number in range(start, start + 20):
            write(tmp_path / "photos" / name / f"{number}.png", encoded(photo(number), "PNG"))
    write(tmp_path / "photos" / "ant" / "cut.png", encoded(photo(200), "PNG")[:200])
    write(tmp_path / "photos" / "bee" / "empty.jpg", b"")
    return tmp_path / "photos"


def test_damaged_images_are_told_before_the_training(photos, tmp_path):
    with pytest.raises(ValueError, match=r"2 of 42 images .* can't be decoded: ant/cut\.png.*; bee/empty\.jpg"):
        regraft.train(TRAINING)
    assert not list(tmp_path.glob("outputs/*/*/checkpoints"))


def test_damaged_images_are_left_out_of_the_run_and_of_all_that_follows_from_it(photos, capsys):
    run = regraft.train([*TRAINING, "data.on_error=skip"])

    skipped = json.loads((run.path / "skipped_images.json").read_text())
    assert skipped.keys() == SKIPPED.keys()
    assert all(skipped[path].startswith(reason) for path, reason in SKIPPED.items())
    assert run.results["num_skipped_images"] == 2
    assert regraft.evaluate([f"run={run.path}"])["test/acc"] == run.metrics["test/acc"]

    for path in SKIPPED:
        (photos / path).unlink()
    regraft.resume([f"run={run.path}", "trainer.max_epochs=2"])  # the same fingerprint, or it would be refused
    with pytest.raises(ValueError, match=r"data\.on_error='raise' \(the run has 'skip'\)"):
        regraft.resume([f"run={run.path}", "trainer.max_epochs=3", "data.on_error=raise"])
