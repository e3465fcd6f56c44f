"""A model of texts that is made in no time: the mean of the words' embeddings, and a linear head."""

from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor, nn

from regraft.core.text_spec import TextSpec
from regraft.core.types import Backbone
from regraft.deployment.classifier import Classifier
from regraft.deployment.network import Network
from regraft.models.heads import Linear

WORDS = ("[UNK]", "good", "bad", "fine", "poor", "film", "the", "was")
WIDTH = 6


def word_spec(max_length: int = 40) -> TextSpec:
    """Returns a spec whose tokenizer knows `WORDS`."""
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return TextSpec(max_length, tokenizer.to_str(), " | ")


class Embeddings(nn.Module):
    """Token ids to hidden states, zero at padding."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(len(WORDS), WIDTH)

    def forward(self, ids: Tensor) -> Tensor:
        return self.words(ids.clamp_min(0)) * (ids >= 0)[..., None]


class Mean(nn.Module):
    """Hidden states to features."""

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden.sum(1) / hidden.any(-1).sum(1, keepdim=True).clamp_min(1)


def word_backbone(max_length: int = 40) -> Backbone:
    """Returns the backbone, with random weights."""
    return Backbone({"embeddings": Embeddings(), "pool": Mean()}, WIDTH, word_spec(max_length))


def word_model(max_length: int = 40) -> Classifier:
    """Returns a model that tells good from bad by these words."""
    torch.manual_seed(0)
    backbone = word_backbone(max_length)
    head = Linear(WIDTH, 2, dropout=0.0, init="default", init_std=0.01)
    with torch.no_grad():
        words = backbone.stages["embeddings"].words.weight
        words[1:3] *= 100
        words /= 100
        direction = 5 * (words[WORDS.index("good")] - words[WORDS.index("bad")])
        head.classifier.weight.copy_(torch.stack([direction, -direction]))
    network = Network(backbone, head).eval()
    return Classifier(network, ("positive", "negative"), backbone.input_spec, 1.0, Path("best.ckpt"))
