"""The texts that an exported file is verified on: of the run's own data, or generated."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from regraft.core.errors import ConfigError
from regraft.core.seeding import derive_seed
from regraft.core.text_spec import TextSpec
from regraft.data.splits import Part
from regraft.data.text.samples import Texts
from regraft.deployment.export.samples import SampleInputs

_NUM_MADE = 16
_MAX_WORDS = 1_000


class TextSamples:
    """Texts, as `TextReader.view` takes them."""

    made = " of random words"

    def __init__(self, spec: TextSpec) -> None:
        self._spec = spec

    def of_split(self, split: str, part: Part) -> SampleInputs:
        """Returns the texts of a run's split."""
        samples = part.samples
        assert isinstance(samples, Texts)
        return SampleInputs(f"{split} texts", len(part), lambda number: samples[int(part.indices[number])], part.labels)

    def of_folder(self, folder: Path, class_names: Sequence[str]) -> SampleInputs:
        """Raises ConfigError: folders are of images."""
        reason = "it is a folder of images, and the model takes texts"
        raise ConfigError("images", reason, got=str(folder), fix="Leave it out.")

    def generated(self) -> SampleInputs:
        """Returns texts of random words of the vocabulary, from one word to more than the model takes."""
        words = self._spec.words
        most = min(self._spec.max_length + 8, _MAX_WORDS)

        def read(index: int) -> str:
            random = np.random.default_rng(derive_seed(0, "export", index))
            num = 1 + round((most - 1) * index / (_NUM_MADE - 1))
            return " ".join(words[number] for number in random.integers(len(words), size=num))

        return SampleInputs("generated texts", _NUM_MADE, read)
