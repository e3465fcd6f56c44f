from tokenizers import Tokenizer

from regraft.data.text.vocabulary import built_tokenizer


def test_words_in_lower_case_the_frequent_ones_first() -> None:
    tokenizer = Tokenizer.from_str(built_tokenizer(["The cat, the dog", "THE CAT!"], max_words=6))
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)  # type: ignore[arg-type]
    assert vocabulary == ["[PAD]", "[UNK]", "the", "cat", "!", ","]
    assert tokenizer.encode("Cat: the dog").tokens == ["cat", "[UNK]", "the", "[UNK]"]
    assert built_tokenizer(["b a", "a b"]) == built_tokenizer(["a b b a"])
