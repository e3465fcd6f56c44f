"""A config that is put right key by key, so that one mistake doesn't hide the next.

Each section is made as a run makes it; the key that its complaint names is put back to what the chosen YAML says, and
it is made again. So rules stand where values are used, and nowhere else.
"""

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from hydra.errors import HydraException
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from regraft.config.errors import key_in, sentences_of
from regraft.config.instantiate import Config, misfits
from regraft.config.nested import ABSENT, at

Made = TypeVar("Made")


class Mending:
    """Gathers what is wrong with a config.

    Args:
        config: the resolved config, which stays as it is.
        reference: gives the config of the same choices without any other override; None if there is no such thing, as
            for a run that goes on.
        blocked: sections that aren't to be made, because what is wrong with them has been said.

    Attributes:
        config: as far as it has been put right.
        faults: a sentence each.
    """

    def __init__(self, config: Config, reference: Callable[[], Config] | None, blocked: set[str]) -> None:
        self.config = copy.deepcopy(config)
        self.faults: list[str] = []
        self._reference = reference
        self._blocked = blocked
        self._put_back: set[str | None] = set()
        self._extra_types: dict[str, Mapping[str, Any]] = {}

    def know_types(self, section: str, types: Mapping[str, Any]) -> None:
        """Takes the types of a section's keys that its target doesn't take itself."""
        self._extra_types[section] = types

    def put_back(self, key: str) -> bool:
        """Puts a key back to what the chosen YAML says, or takes it away; returns whether that changes anything."""
        if self._reference is None:
            return False
        path, _, name = key.rpartition(".")
        node, right = at(self.config, path) if path else self.config, at(self._reference(), key)
        if not isinstance(node, dict) or node.get(name, ABSENT) == right or right == "???":
            return False
        if right is ABSENT:
            del node[name]
        else:
            node[name] = copy.deepcopy(right)
        self._put_back.add(key)
        return True

    def fill(self, section: str, keys: Sequence[str]) -> None:
        """Gives a section of plain values those of its keys that it lacks, and puts it back if it is none."""
        if isinstance(self.config.get(section), Mapping) and set(keys) <= set(self.config[section]):
            return
        right = {} if self._reference is None else self._reference().get(section, {})
        got = self.config.get(section)
        self.config[section] = copy.deepcopy(right) | (dict(got) if isinstance(got, Mapping) else {})

    def attempt(self, section: str, make: Callable[[], Made]) -> Made | None:
        """Returns what is made of the config as it is by now; None if it can't be put right.

        Args:
            section: that it is made of, such as `callbacks.best`.
            make: reads `self.config` whenever it is called.
        """
        if section.partition(".")[0] in self._blocked:
            return None
        while True:
            try:
                made = make()
            except (ValueError, OSError, HydraException, MisconfigurationException) as error:
                found = [sentence for line in sentences_of(error) for sentence in self._sentences(section, line)]
            else:
                found = self._misfits(section)
                if not found:
                    return made
            # What is wrong with a key once it has been put back is no news to who wrote something else.
            news = [sentence for sentence in found if key_in(sentence) not in self._put_back]
            self.faults += [sentence for sentence in news if sentence not in self.faults]
            if not [sentence for sentence in news if self.put_back(key_in(sentence) or section)]:
                return None

    def _sentences(self, section: str, line: str) -> list[str]:
        """Returns a complaint as sentences that name the keys that they are about, as far as they can be told."""
        key = key_in(line)
        if key is not None and "." in key and key != section and key.partition(".")[0] in self.config:
            return [line]
        # Words of a library, or of a call that failed as a whole.
        found = self._misfits(section)
        if found:
            return found
        if key is not None and key != section and key in self.config:
            return [line]  # which is about another section
        line = line.removeprefix(f"{section}: ")
        name = self._blamed(section, line)
        if name is not None:
            return [f"{section}.{name}: got {at(self.config, section)[name]!r}; {line}"]
        return [f"{section}: {line}"]

    def _blamed(self, section: str, line: str) -> str | None:
        """Returns the changed key that a complaint speaks of, or the only changed one; None if that can't be told."""
        node, right = at(self.config, section), {} if self._reference is None else at(self._reference(), section)
        if not (isinstance(node, dict) and isinstance(right, Mapping)):
            return None
        changed = [name for name, value in node.items() if name in right and right[name] != value]
        named = [name for name in changed if re.search(rf"\b{re.escape(name)}\b", line, re.I)]
        return named[0] if named else changed[0] if len(changed) == 1 else None

    def _misfits(self, section: str) -> list[str]:
        node = at(self.config, section)
        if not isinstance(node, Mapping) or "_target_" not in node:
            return []
        try:
            return misfits(node, section, self._extra_types.get(section, {}))
        except ValueError:  # there is no such target, which what makes it says
            return []
