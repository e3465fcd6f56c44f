import pytest
from omegaconf import OmegaConf

from regraft.config import compose
from regraft.config.interpolations import require_bounded_references


def bomb(first: str, name: str) -> dict[str, str]:
    """Returns keys that each repeat the one before ten times."""
    return {"x0": first} | {f"x{number}": name.format(number - 1) * 10 for number in range(1, 11)}


@pytest.mark.parametrize(
    "content",
    [
        bomb("0123456789", "${{x{}}}"),
        bomb("0123456789", "${{oc.select:x{},none}}"),
        bomb("0123456789", "${{oc.select:x{},${{x0}}}}"),
        {"inner": bomb("0123456789", "${{.x{}}}")},
        {"inner": bomb("0123456789", "${{inner[x{}]}}")},
        {"x0": "0123456789"} | {f"x{n}": [f"${{x{n - 1}}}"] * 10 for n in range(1, 11)},
    ],
)
def test_what_would_fill_memory_is_refused_before_it_does(content):
    with pytest.raises(ValueError, match=r"^file: its interpolations make \S+ longer than 1,000,000 characters"):
        require_bounded_references(content, "file")


@pytest.mark.parametrize("step", [1, -1])
@pytest.mark.parametrize("name", ["${{x{}}}", "a ${{oc.select:x{},none}}"])
def test_a_chain_that_is_too_long_to_resolve_is_refused(step, name):
    content = {"x0": 1} | {f"x{number}": name.format(number - 1) for number in range(1, 2000)}
    with pytest.raises(ValueError, match=r"^file: x21 refers to .* more than 20 times\. Refer to the last"):
        require_bounded_references(dict(list(content.items())[::step]), "file")
    shorter = {key: content[key] for key in list(content)[:21]}
    require_bounded_references(shorter, "file")
    assert OmegaConf.to_container(OmegaConf.create(shorter), resolve=True)["x20"]


def test_a_name_that_is_an_interpolation_is_refused():
    with pytest.raises(ValueError, match=r"^b: in '\$\{x\$\{a\}\}' the name"):
        require_bounded_references({"a": 1, "x1": 2, "b": "${x${a}}"}, "file")


def test_what_is_shipped_is_small_and_circles_are_left_to_resolving():
    require_bounded_references({"a": "${b}", "b": "${a}", "c": {"d": "${c}"}}, "file")
    for name in ("train", "eval", "probe", "auto", "rank"):
        compose.compose_once(name, [], None)


@pytest.mark.parametrize("is_apart", [False, True])
def test_a_bomb_in_files_is_refused(is_apart, tmp_path):
    (tmp_path / "experiment").mkdir()
    lines = [f"{key}: {value}" for key, value in bomb("0123456789", "${{x{}}}").items()]
    halves = (lines[:6], lines[6:]) if is_apart else (lines, [])
    for name, half in zip("ab", halves, strict=True):
        text = "\n".join(["# @package _global_", "defaults: [b]" if name == "a" else "", *half, ""])
        (tmp_path / "experiment" / f"{name}.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"its interpolations make x\d+ longer than"):
        compose.compose_once("train", ["experiment=a"], str(tmp_path))
