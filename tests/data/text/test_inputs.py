import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from regraft.core.errors import ConfigError, ConfigErrors
from regraft.core.image_spec import ImageSpec
from regraft.core.text_spec import PADDING, TextSpec
from regraft.core.types import BatchKey
from regraft.data.datamodule import DataModule
from regraft.data.images.transforms.augment import Augment
from regraft.data.sources.base import Splits
from regraft.data.sources.digits import DigitsSource
from regraft.data.text.cleaning import COLUMN_SEPARATOR
from regraft.data.text.inputs import TextInputs
from regraft.data.text.samples import Texts


class Sentences:
    """Texts of 1 to 24 words, those of even length of the first class."""

    def __init__(self, *more: str) -> None:
        self._words = [" ".join(f"w{n}" for n in range(length)) for length in range(1, 25)] + list(more)

    def prepare(self) -> None: ...

    def splits(self) -> Splits:
        labels = torch.arange(1, len(self._words) + 1) % 2
        return Splits(("even", "odd"), Texts.from_texts(self._words, labels))


def words(*names: str) -> str:
    tokenizer = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, names[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_padding(length=30)
    tokenizer.enable_truncation(2)
    return tokenizer.to_str()


WORDS = words("?", *(f"w{n}" for n in range(24)), "[SEP]")


def made(spec: TextSpec | None = None, source: Sentences | None = None, **options: object) -> DataModule:
    options = {"val_fraction": 0, "test_fraction": 0, "batch_size": 6} | options
    data = DataModule(source or Sentences(), spec or TextSpec(20, WORDS), **options)  # type: ignore[arg-type]
    data.prepare_data()
    data.setup()
    return data


def key(*indices: int) -> BatchKey:
    return BatchKey(0, 0, np.array(indices), np.zeros(len(indices), np.int64))


def test_a_batch_has_ids_padded_to_its_longest_text() -> None:
    data = made()
    batch = data.inputs.dataset("train", is_training=True)[key(8, 0)]
    assert batch["inputs"].shape == (2, 16)
    assert batch["inputs"].dtype == torch.int64
    assert batch["inputs"][0, :10].tolist() == [*range(1, 10), PADDING]
    assert batch["inputs"][1, :2].tolist() == [1, PADDING]
    assert batch["targets"].tolist() == [1, 1]
    finished = data.on_after_batch_transfer(batch, 0)
    assert set(finished) == {"inputs", "targets", "indices", "draw_seed"}
    assert "draw_seed" not in data.inputs.dataset("train", is_training=False)[key(8)]
    # Whatever the tokenizer's file says of padding and truncation, max_length counts.
    assert data.inputs.dataset("train", is_training=False)[key(23)]["inputs"].tolist() == [list(range(1, 21))]


def test_a_part_of_the_samples_has_their_texts() -> None:
    data = made(val_fraction=0.25)
    for split in ("train", "val"):
        indices = data.indices(split).numpy()
        batch = data.inputs.dataset(split, is_training=False)[key(*indices)]
        assert (batch["inputs"] != PADDING).sum(1).tolist() == [min(index + 1, 20) for index in indices.tolist()]


def test_texts_of_a_view_share_a_batch_with_their_own_padded_length_alone() -> None:
    inputs = made().inputs
    assert isinstance(inputs, TextInputs)
    (view,) = inputs.views("train", 3)
    positions = view.arranged(torch.arange(23, -1, -1))
    batches = list(view.batches(positions, 5, torch.device("cpu")))
    assert [tuple(batch.shape) for batch in batches] == [(5, 8), (3, 8), (5, 16), (3, 16), (5, 20), (3, 20)]
    lengths = torch.cat([(batch != PADDING).sum(1) for batch in batches])
    assert lengths.tolist() == [min(position + 1, 20) for position in positions.tolist()]
    assert inputs.choose_views(1, key(1, 2)).tolist() == [0, 0]


def test_texts_that_reach_the_maximal_length_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    made(TextSpec(8, WORDS)).inputs.dataset("train", is_training=True)
    assert "17 of the 24 texts of train reach model.max_length=8 tokens" in caplog.text
    caplog.clear()
    made(TextSpec(25, WORDS)).inputs.dataset("train", is_training=True)
    assert not caplog.text


def test_a_vocabulary_is_built_from_the_training_texts_alone() -> None:
    data = made(TextSpec(20), val_fraction=0.25)
    spec = data.inputs.input_spec
    assert isinstance(spec, TextSpec)
    assert spec.tokenizer is not None
    vocabulary = Tokenizer.from_str(spec.tokenizer).get_vocab()
    longest = int(data.indices("train").max()) + 1
    assert vocabulary.keys() == {"[PAD]", "[UNK]", *(f"w{n}" for n in range(longest))}
    assert data.inputs.input_spec is spec


def test_columns_are_joined_with_the_separator() -> None:
    data = made(TextSpec(20, WORDS, " [SEP] "), Sentences(f"w1{COLUMN_SEPARATOR}w2"))
    batch = data.inputs.dataset("train", is_training=False)[key(24)]
    assert batch["inputs"][0, :4].tolist() == [2, 25, 3, PADDING]


def test_a_text_without_a_token_is_named() -> None:
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, "?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("-", "removed")
    data = made(TextSpec(20, tokenizer.to_str()), Sentences("--"))
    with pytest.raises(ConfigError, match=r"data.text: the tokenizer finds no token in 1 text: '--'. Remove them"):
        data.inputs.dataset("train", is_training=False)


def test_what_is_for_pixels_is_refused_by_name() -> None:
    with pytest.raises(ConfigErrors) as found:
        made(augment=Augment(flip_probability=0.5), background="black", value_range=(0, 1))
    assert [message.partition(":")[0] for message in found.value.messages] == [
        "augment",
        "data.background",
        "data.value_range",
    ]


def test_texts_and_images_need_models_of_their_own() -> None:
    with pytest.raises(ConfigError, match=r"model: it takes images, and the data holds texts. Use .*model=minilm"):
        DataModule(Sentences(), ImageSpec(8)).setup()
    with pytest.raises(ConfigError, match="model: it takes texts, and the data holds images"):
        DataModule(DigitsSource(), TextSpec(8, WORDS)).setup()
    images = DataModule(DigitsSource(), ImageSpec(8))
    images.setup()
    with pytest.raises(ConfigError, match="model: it takes texts, and the data holds images"):
        images.with_input_spec(TextSpec(8, WORDS))
