"""The overrides of a run in about a second: a small CNN from scratch on a part of the digits; and digits as photos."""

from pathlib import Path
from typing import Any

from PIL import Image
from sklearn.datasets import load_digits

from regraft.runs.folder import Run
from regraft.training.fit.assemble import Parts, assemble
from regraft.training.plan import checked_job

SMALL = [
    "data=digits",
    "data.fraction=0.2",
    "data.batch_size=64",
    "model=simple_cnn",
    "model.image_size=8",
    "freezing=none",
    "trainer=cpu",
    "trainer.max_epochs=2",
    "trainer.enable_progress_bar=false",
    "logger=csv",
]


def without(*keys: str) -> list[str]:
    """Returns the overrides but those that start with one of the keys."""
    return [override for override in SMALL if not override.startswith(keys)]


def assembled(config: dict[str, Any]) -> Parts:
    """Returns the parts of a training that starts with a resolved config."""
    job = checked_job(config, Run(Path("no_run")))
    job.require_sound()
    assert job.checked is not None
    return assemble(job.checked, job.checkpoint)


def digits_folder(root: Path, names: dict[int, str]) -> None:
    """Writes some digits as a folder of photos, each class under the name that is given for it."""
    digits = load_digits()
    for split, start in (("train", 0), ("test", 1000)):
        for label, name in names.items():
            (root / split / name).mkdir(parents=True)
            for index in [place for place in range(start, len(digits.target)) if digits.target[place] == label][:6]:
                pixels = (digits.images[index] * 15.9375).astype("uint8")
                Image.fromarray(pixels).save(root / split / name / f"{index}.png")
