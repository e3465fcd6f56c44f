"""What stands in the way of a data set, found out before it is tried: no folder, no server."""

from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

TIMEOUT_SECONDS = 10


def refuse_file(root: Path) -> None:
    """Returns unless the root is a file, e.g. an archive that wasn't unpacked.

    Raises:
        FileNotFoundError: it is.
    """
    if root.is_file():
        raise FileNotFoundError(f"data.root: got {root}, which is a file. Fix: data.root=PATH of a folder.")


def check_reachable(url: str, what: str, offline_choice: str) -> None:
    """Returns if the server answers; torchvision's own download waits for minutes where packets are dropped.

    Args:
        url: of the file.
        what: is missing, for the error.
        offline_choice: what works without a network, for the error.

    Raises:
        FileNotFoundError: there is no way to the server, or it doesn't have the file.
    """
    try:
        with urlopen(Request(url, method="HEAD", headers={"User-Agent": "regraft"}), timeout=TIMEOUT_SECONDS):
            return
    except OSError as error:
        reason = f"HTTP {error.code}" if isinstance(error, HTTPError) else str(getattr(error, "reason", error))
        raise FileNotFoundError(
            f"{what}, and {url} can't be reached ({reason}). Without a network: {offline_choice}."
        ) from error
