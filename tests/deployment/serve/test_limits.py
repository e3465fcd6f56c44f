import pytest

from regraft.deployment.serve.limits import Limits

SOUND = {"max_megabytes": 32, "max_photos": 16, "max_megapixels": 64, "max_waiting": 64, "upload_seconds": 60}


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [("max_photos", 0, "1, 2, 3"), ("max_waiting", 1.5, "1, 2, 3"), ("max_megabytes", -1, "above 0"),
     ("upload_seconds", "long", "above 0"), ("max_megapixels", True, "above 0")],
)  # fmt: skip
def test_a_bound_that_is_none_is_refused(key, value, allowed):
    with pytest.raises(ValueError, match=rf"{key}: got {value!r}; allowed: {allowed}"):
        Limits(**SOUND | {key: value})


def test_bounds_in_bytes_and_pixels():
    limits = Limits(**SOUND)
    assert (limits.max_bytes, limits.max_pixels) == (32_000_000, 64_000_000)
