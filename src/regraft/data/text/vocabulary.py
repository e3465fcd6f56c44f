"""A vocabulary of the words of training texts, as a tokenizer, for models that start from no tokenizer."""

from collections.abc import Iterable

PADDING, UNKNOWN = "[PAD]", "[UNK]"
_MAX_WORDS = 30_000


def built_tokenizer(texts: Iterable[str], max_words: int | None = None) -> str:
    """Returns a tokenizer of words in lower case, as JSON of the tokenizers library.

    Its words are those of the texts, the more frequent ones first and those of one frequency in alphabetical order;
    others become one unknown word.

    Args:
        max_words: of the vocabulary at most; None for 30,000.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordLevel({}, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # words, and punctuation in tokens of its own
    trainer = trainers.WordLevelTrainer(
        vocab_size=max_words or _MAX_WORDS, special_tokens=[PADDING, UNKNOWN], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str()
