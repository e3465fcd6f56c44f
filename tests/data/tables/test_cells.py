import pytest

from regraft.data.tables.cells import BadValueError, number_in


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        ("1,5", "comma"),
        ("1,000", "comma"),
        ("1,000,000.5", "comma"),
        ("7.842,15", "comma"),
        ("1 234,5", "comma"),
        ("1'234", "comma"),
        ("big", "not_a_number"),
        ("1_000", "not_a_number"),
        ("nan", "not_finite"),
        ("-inf", "not_finite"),
        ("1e60", "not_finite"),
        (float("nan"), "not_finite"),
    ],
)
def test_what_is_not_a_number_is_named(cell: object, kind: str) -> None:
    with pytest.raises(BadValueError) as found:
        number_in(cell)
    assert found.value.kind == kind
