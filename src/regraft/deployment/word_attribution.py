"""How much each word of a text matters for a class: what the class's probability loses without it."""

import re

import torch

from regraft.deployment.classifier import Classifier

_WORD = re.compile(r"\S+\s*")
_MAX_PARTS = 64
_BATCH = 32


def word_weights(model: Classifier, text: str, class_index: int) -> list[tuple[str, float]]:
    """Returns the words of a text in order, with the blanks after them, and the weight of each.

    The weight is the class's probability for the text, minus that for the text without the word; below 0 against the
    class (Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, which hides parts of
    images). Of a text with more than 64 words, several together are one part.
    """
    words = _WORD.findall(text)
    step = -(-len(words) // _MAX_PARTS) or 1
    parts = ["".join(words[start : start + step]) for start in range(0, len(words), step)]
    if len(parts) < 2:
        return [(text, 0.0)]
    without = ["".join(parts[:index] + parts[index + 1 :]).strip() for index in range(len(parts))]
    views = []
    for each in (text, *without):
        try:
            views.append(model.view(each))
        except ValueError:  # nothing is left for the tokenizer
            views.append(views[0])
    batches = [model.reader.batch(views[start : start + _BATCH]) for start in range(0, len(views), _BATCH)]
    probabilities = torch.cat([model.probabilities(batch)[:, class_index] for batch in batches])
    return list(zip(parts, (probabilities[0] - probabilities[1:]).tolist(), strict=True))
