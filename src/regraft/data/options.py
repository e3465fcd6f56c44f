"""What the datamodule may be told, and in which ranges."""

CACHE_CHOICES = ("auto", "on", "off")
_MAX_WORKERS = 256


def cache_choice(cache: str | bool) -> str:
    """Returns `data.cache` as it was written: YAML 1.1 reads on and off as booleans.

    Raises:
        ValueError: it is none of the choices.
    """
    choice = ("on" if cache else "off") if isinstance(cache, bool) else cache
    _check(choice in CACHE_CHOICES, "cache", cache, ", ".join(CACHE_CHOICES))
    return choice


def require_options(
    batch_size: int,
    num_workers: int,
    val_fraction: float,
    test_fraction: float,
    fraction: float,
    shots: int | None,
    sampler: str,
) -> None:
    """Checks each of them, and that they go together; see `ImageDataModule`.

    Raises:
        ValueError: one is out of range.
    """
    _check(isinstance(batch_size, int) and batch_size >= 1, "batch_size", batch_size, "1, 2, 3, ...")
    is_number = isinstance(num_workers, int) and 0 <= num_workers <= _MAX_WORKERS
    _check(is_number, "num_workers", num_workers, f"0 to {_MAX_WORKERS} processes; a core each is plenty")
    _check(0 <= val_fraction < 1, "val_fraction", val_fraction, "0 to below 1")
    _check(0 <= test_fraction < 1, "test_fraction", test_fraction, "0 to below 1")
    _check(0 < fraction <= 1, "fraction", fraction, "above 0, at most 1")
    _check(shots is None or (isinstance(shots, int) and shots >= 1), "shots", shots, "1, 2, 3, ..., null")
    _check(sampler in ("shuffle", "balanced"), "sampler", sampler, "shuffle, balanced")
    if shots is not None and fraction != 1.0:
        raise ValueError(f"data.shots: got {shots} together with data.fraction={fraction}; allowed: one of the two.")


def _check(is_right: bool, key: str, value: object, allowed: str) -> None:
    if not is_right:
        raise ValueError(f"data.{key}: got {value!r}; allowed: {allowed}.")
