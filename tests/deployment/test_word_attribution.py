from helpers.small_texts import word_model
from regraft.deployment.word_attribution import word_weights


def test_the_words_that_a_class_depends_on_have_weight():
    text = "the film was  good\nfilm"
    found = word_weights(word_model(), text, 0)
    assert "".join(part for part, _ in found) == text
    weights = {part.strip(): weight for part, weight in found}
    assert max(weights, key=weights.get) == "good"
    assert word_weights(word_model(), text, 1)[3][1] < 0


def test_a_long_text_has_few_parts_and_a_single_word_one():
    assert len(word_weights(word_model(), "the film was good " * 100, 0)) <= 64
    assert word_weights(word_model(), "good", 0) == [("good", 0.0)]
