import pytest

from regraft.deployment.serve.limits import Hosts, Limits

SOUND = {"max_megabytes": 32, "max_photos": 16, "max_megapixels": 64, "max_waiting": 64}
SOUND |= {"upload_seconds": 60, "decode_seconds": 10}


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [("max_photos", 0, "1, 2, 3"), ("max_waiting", 1.5, "1, 2, 3"), ("max_megabytes", -1, "above 0"),
     ("upload_seconds", "long", "above 0"), ("max_megapixels", True, "above 0")],
)  # fmt: skip
def test_a_bound_that_is_none_is_refused(key, value, allowed):
    got = "true" if value is True else repr(value)  # as in YAML
    with pytest.raises(ValueError, match=rf"{key}: got {got}; allowed: {allowed}"):
        Limits(**SOUND | {key: value})


def test_bounds_in_bytes_and_pixels():
    limits = Limits(**SOUND)
    assert (limits.max_bytes, limits.max_pixels) == (32_000_000, 64_000_000)


@pytest.mark.parametrize(
    ("header", "is_allowed"),
    [
        ("localhost:8000", True),
        ("LOCALHOST", True),
        ("[::1]:8000", True),
        ("photos.example.org", True),
        ("example.org", False),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("192.168.1.5:8000", False),
        ("", False),
    ],
)
def test_a_name_is_known_or_not(header, is_allowed):
    assert Hosts(["localhost", "::1", "*.example.org"], takes_addresses=False).allow(header) is is_allowed


@pytest.mark.parametrize(
    ("header", "is_allowed"), [("192.168.1.5:80", True), ("[fe80::1]:80", True), ("evil.example", False)]
)
def test_a_server_on_all_addresses_is_called_by_any_of_them(header, is_allowed):
    assert Hosts(["localhost"], takes_addresses=True).allow(header) is is_allowed


@pytest.mark.parametrize("name", ["foo*", "*", "a.*.b", ""])
def test_a_star_stands_at_the_start(name):
    with pytest.raises(ValueError, match="allowed_hosts: got"):
        Hosts([name], takes_addresses=False)
