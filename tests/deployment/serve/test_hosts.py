"""By which names a server may be called."""

import pytest

from regraft.deployment.serve.limits import Hosts


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
