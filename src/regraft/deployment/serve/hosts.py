"""By which names a server may be called: a page of another site could give its own name this machine's address.

An address that is written out can't be redirected like that (DNS rebinding).
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Hosts:
    """What the header `Host` may say.

    Attributes:
        names: hosts without a port, IPv6 addresses without brackets; `*.example.org` stands for what ends so.
        takes_addresses: whether any address that is written out may be said too, as for a server on all of them.

    Raises:
        ValueError: a star stands elsewhere than at a name's start.
    """

    names: Sequence[str]
    takes_addresses: bool

    def __post_init__(self) -> None:
        for name in self.names:
            if "*" in name.removeprefix("*.") or not name:
                raise ValueError(f"allowed_hosts: got {name!r}; allowed: a name, an address, or *.NAME.")

    def allow(self, header: str) -> bool:
        """Whether a request may say so."""
        host = header.strip().lower()
        host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        if any(host == name.lower() or (name[:2] == "*." and host.endswith(name[1:].lower())) for name in self.names):
            return True
        return self.takes_addresses and _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
