import pytest

from regraft.deployment.export.metadata import require_distinct


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["ant", "bee", "ant"], r"the same label: 0 \('ant'\) and 2 \('ant'\)"),
        (["bee", "red  ant", "red ant "], r"1 \('red  ant'\) and 2 \('red ant '\)"),
        (["caf\u00e9", "cafe\u0301"], "the same label"),
        (["ant", " "], "the name of class 1 is blank, ' '"),
    ],
)
def test_names_that_become_one_label_are_refused_with_a_fix(names, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        require_distinct(names)
    assert "class_names=[...]" in str(error.value)


def test_letters_of_both_cases_are_classes_of_their_own():
    require_distinct(["a", "A"])
