"""Commands that a folder keeps, of a sweep or a search: like config files, they may be somebody else's."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from regraft.config.quoting import key_of, parsed, readable
from regraft.config.sources import require_harmless
from regraft.config.trust import is_trusted, named_in, values
from regraft.config.written_paths import leads_out
from regraft.core.errors import ConfigError, ConfigErrors


def require_harmless_command(recorded: Sequence[str], typed: Sequence[str], file: Path) -> None:
    """Checks the overrides of a command that is repeated from a file.

    Args:
        recorded: the file's, without those that are replaced.
        typed: the overrides that are given now, which alone decide what is trusted.
        file: in the folder that the command may write into.

    Raises:
        ConfigErrors: they hold what only a command line may: what is trusted, and where files are written.
    """
    trust, errors = named_in(typed), []
    for each in recorded:
        if not _is_harmless(each, trust, file):
            fix = f"If you want it, add {each} to the command."
            errors.append(
                ConfigError(f"{file}: {key_of(each) or each}", "this is given on the command line only", fix=fix)
            )
    if errors:
        raise ConfigErrors(errors)


def typed_again(recorded: Sequence[str], file: Path) -> list[str]:
    """Returns the overrides that have to be typed again to repeat a command from a file.

    They are those that `require_harmless_command` takes from the command line alone.
    """
    # What is trusted decides about the others.
    trusting = [each for each in recorded if named_in([each])]
    trust = named_in(trusting)
    return [each for each in recorded if each in trusting or not _is_harmless(each, trust, file)]


def _is_harmless(override: str, trust: Sequence[str], file: Path) -> bool:
    try:
        (line,) = readable([override])
        found = parsed(line)
        if key_of(override) is None or found.package is not None:
            return False
        # What an override names is trusted, so that it has to be trusted already.
        if not all(is_trusted(name, trust) for name in named_in([override])):
            return False
        for part in _single(found):
            group, content = part.key_or_group, part.value()
            # Numbers of jobs, devices or minutes.
            is_of_launcher = group.startswith("hydra.launcher.") and isinstance(content, int | float)
            if "/" not in group and not is_of_launcher:
                require_harmless(content, trust, str(file), group)
            if any(leads_out(place, value, str(file.parent)) for place, value in values(content, group)):
                return False
    except (HydraException, ConfigError):
        return False
    return True


def _single(override: Override) -> Iterator[Override]:
    """Yields an override for each value that it lists, or itself."""
    if not override.is_sweep_override():
        yield override
    elif override.is_discrete_sweep():
        for value in override.sweep_string_iterator():
            yield parsed(f"{override.key_or_group}={value}")
