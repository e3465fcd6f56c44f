import pytest

from regraft.models.layouts import layout_of, num_other_tokens


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((2, 16, 7, 7), "channels first"),
        ((2, 7, 7, 16), "channels last"),
        ((2, 7, 7, 7), "channels first"),
        ((2, 16, 1, 1), "channels first"),
        ((2, 49, 16), "tokens"),
        ((2, 50, 16), "tokens"),
        ((2, 62, 16), None),
        ((2, 16), None),
    ],
)
def test_the_layout_follows_from_the_shape(shape, layout):
    assert layout_of(shape) == layout


@pytest.mark.parametrize(("num_tokens", "num_others"), [(49, 0), (50, 1), (54, 5)])
def test_tokens_that_are_not_patches_are_counted(num_tokens, num_others):
    assert num_other_tokens((2, num_tokens, 16)) == num_others
