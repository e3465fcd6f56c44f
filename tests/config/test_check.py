import pytest

from regraft.config.check import compose_sound


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
