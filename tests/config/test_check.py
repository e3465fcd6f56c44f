import pytest

from regraft.config.check import compose_sound, reference
from regraft.config.compose import compose_once


@pytest.mark.parametrize(
    ("wrong", "keys", "left"),
    [
        (["seed=${nowhere}"], ["data.subset_seed"], []),
        (["~seed"], ["data.subset_seed"], []),
        (["seed.x=1", "modle=x"], ["modle", "seed.x"], []),
        (["head=scaled", "optimizer.lr=2"], ["head"], ["optimizer.lr=2"]),
        (["head._target_=evil.Head", "optimizer.lr=2"], [], ["head._target_=evil.Head", "optimizer.lr=2"]),
        (["seed=-1", "output_dir="], ["output_dir", "seed"], []),
    ],
)
def test_an_override_that_cant_be_composed_is_left_out(wrong, keys, left):
    found = compose_sound(["fitting=steps", *wrong], None)
    assert sorted(error.key for error in found.errors) == keys
    assert found.overrides == ["fitting=steps", *left]
    assert found.config is not None


def test_the_choices_of_a_command_are_composed_with_what_it_trusts(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/theirs.yaml").write_text("_target_: theirs.backbone\nimage_size: null\n")
    composed = compose_once("train", ["model=theirs", "model.image_size=8", "trust=[theirs]"], str(tmp_path))
    assert reference(composed.hydra)["model"] == {"_target_": "theirs.backbone", "image_size": None}
