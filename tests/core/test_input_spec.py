"""What a backbone expects as input, in plain values."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from regraft.core.errors import ConfigError
from regraft.core.image_spec import ImageSpec
from regraft.core.modalities import input_spec_of
from regraft.core.text_spec import TextSpec, padded, padded_length

WORDS = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "b": 4, "c": 5}


@pytest.fixture
def spec() -> TextSpec:
    tokenizer = Tokenizer(WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    special = [(name, WORDS[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    tokenizer.enable_padding(length=64)
    tokenizer.enable_truncation(3)
    return TextSpec(5, tokenizer.to_str(), " [SEP] ")


def test_texts_are_cut_by_the_spec_and_not_by_what_the_tokenizer_has_baked_in(spec):
    short, long, other = spec.encode(["a", "a b c a b c", "a x"])

    assert short.tolist() == [1, 3, 2]
    assert long.tolist() == [1, 3, 4, 5, 2]
    assert other.tolist() == [1, 3, 0, 2]


def test_the_most_tokens_are_more_than_the_special_ones(spec):
    assert [each.tolist() for each in replace(spec, max_length=3).encode(["a b"])] == [[1, 3, 2]]
    with pytest.raises(ConfigError, match=r"^model\.max_length: got 2; allowed: 3 or more, .* 2 special tokens"):
        replace(spec, max_length=2)


def test_a_text_has_room_for_more_than_special_tokens(spec):
    assert replace(spec, max_length=3).encode(["a b"])[0].tolist() == [1, 3, 2]
    with pytest.raises(ConfigError, match=r"^model\.max_length: got 2; allowed: 3 or more, .* 2 special tokens"):
        replace(spec, max_length=2)


def test_a_batch_is_padded_on_the_right():
    texts = [np.array([1, 3, 2], np.int32), np.array([1, 2], np.int32)]
    assert padded(texts, 4).tolist() == [[1, 3, 2, -1], [1, 2, -1, -1]]


@pytest.mark.parametrize(("length", "expected"), [(1, 8), (8, 8), (9, 16), (27, 30), (30, 30)])
def test_a_text_is_padded_to_a_multiple_of_eight_or_to_the_most_tokens(length, expected):
    assert padded_length(length, 30) == expected


def test_specs_are_the_same_after_plain_types_and_pickling(spec):
    spec.encode(["a"])  # which keeps a tokenizer
    for each in (spec, ImageSpec(8, mean=(0.5,) * 3, std=(0.2,) * 3, eval_view="square")):
        assert input_spec_of(each.to_dict()) == each
        assert pickle.loads(pickle.dumps(each)) == each


def test_the_store_holds_the_hash_of_a_tokenizer(spec):
    fields = spec.store_fields()
    assert fields["tokenizer"] == spec.tokenizer_hash
    assert len(fields["tokenizer"]) == 32


@pytest.mark.parametrize("fields", [{}, {"kind": "sound"}, {"kind": "image"}, {"kind": "text", "image_size": 3}])
def test_what_is_not_a_spec_is_refused(fields):
    with pytest.raises(ConfigError, match="input_spec"):
        input_spec_of(fields)


def test_pooled_texts_do_not_depend_on_padding(spec):
    tokens = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    longer = torch.cat([tokens, torch.zeros(2, 5, 4)], dim=1)

    pooled = spec.pool(tokens)

    expected = torch.cat([tokens.mean(1), tokens.std(1, correction=0)], dim=1)
    assert torch.allclose(pooled, expected, atol=1e-6)
    assert torch.allclose(spec.pool(longer), pooled, atol=1e-6)
    assert spec.pooled_width(tokens.shape) == pooled.shape[1]
