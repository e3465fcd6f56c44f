import pytest

from regraft.config.safe_yaml import MAX_DEPTH, load, require_bounded, require_bounded_tree


def bomb(width: int, levels: int) -> str:
    """Returns YAML whose aliases stand for width ** levels values."""
    lines = [
        "a0: &a0 x",
        *(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * width)}]" for level in range(1, levels)),
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("text", [bomb(9, 7), bomb(9, 60), bomb(2, 40), bomb(11_000, 2)])
def test_an_alias_bomb_is_refused(text):
    with pytest.raises(ValueError, match="a file: its aliases repeat more than 10,000 values"):
        require_bounded(text, "a file")


def test_aliases_as_people_use_them_are_read(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text("base: &base {lr: 0.1, betas: [0.9, 0.99]}\nsmall: {<<: *base, lr: 0.01}\nsame: *base\n")
    content = load(path)
    assert content["small"] == {"lr": 0.01, "betas": [0.9, 0.99]}
    assert content["same"] == content["base"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: &a [*a]", "alias \\*a stands for nothing, or for a part of itself"),
        ("a: *nothing", "alias \\*nothing stands for nothing"),
        ("[" * 200, "nested more than 50 deep"),
        ("a: [b", "can't be read as YAML"),
        ("a: !!python/object/apply:os.system [touch canary]", "can't be read as YAML"),
        ("a: !!python/name:os.system", "can't be read as YAML"),
    ],
)
def test_invalid_yaml_is_refused(text, sentence, tmp_path):
    (tmp_path / "some.yaml").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        load(tmp_path / "some.yaml")
    assert not (tmp_path / "canary").exists()


def test_bytes_that_are_not_text_are_refused(tmp_path):
    (tmp_path / "some.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(ValueError, match=r"some\.yaml: can't be read as YAML"):
        load(tmp_path / "some.yaml")


def test_nesting_through_aliases_counts():
    chain = "a0: &a0 [x]\n" + "".join(f"a{level}: &a{level} [*a{level - 1}]\n" for level in range(1, MAX_DEPTH + 1))
    with pytest.raises(ValueError, match="nested more than 50 deep"):
        require_bounded(chain, "a file")


def test_a_tree_that_repeats_itself_is_refused():
    node = ["x"] * 9
    for _ in range(6):
        node = [node] * 9
    with pytest.raises(ValueError, match="repeats more than 10,000 values"):
        require_bounded_tree({"node": node}, "a file")


def test_a_tree_without_end_is_refused():
    node: list = []
    node.append(node)
    with pytest.raises(ValueError, match="without end"):
        require_bounded_tree(node, "a file")


def test_a_large_tree_without_repetition_is_accepted():
    require_bounded_tree({"class_weights": [0.5] * 100_000}, "a file")
