import shlex

import pytest

from regraft.config.quoting import as_typed, for_shell, parsed, readable, repeated, trusting
from regraft.config.trust import named_in


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("data.root=~/Photos", "data.root=/home/me/Photos"),
        ("output_dir='~/runs'", "output_dir='/home/me/runs'"),
        ("models=[~/a,'~/b']", "models=[/home/me/a,'/home/me/b']"),
        ("hydra.run.dir=~", "hydra.run.dir=/home/me"),
        ("--config-dir=~/conf", "--config-dir=/home/me/conf"),
        ("~/runs/a", "/home/me/runs/a"),
        ("run=~b", "run='~b'"),
        ("data.root=a~/b", "data.root='a~/b'"),
        ("data.root=/home/jörg/Fotos (2019), neu", "data.root='/home/jörg/Fotos (2019), neu'"),
        ("data.root=John's", 'data.root="John\'s"'),
        ('data.root=John\'s "old" ones', "data.root='John\\'s \"old\" ones'"),
        ("data.root=a b", "data.root=a b"),
        ("optimizer.lr=1e-3,1e-2", "optimizer.lr=1e-3,1e-2"),
        ("optimizer.lr=tag(log,interval(1e-5,1e-1))", "optimizer.lr=tag(log,interval(1e-5,1e-1))"),
        ("optimizer.betas=[0.9", "optimizer.betas=[0.9"),
        ("~penalty.l2", "~penalty.l2"),
        ("--config-dir", "--config-dir"),
    ],
)
def test_a_value_that_hydra_cant_read_is_quoted(word, expected, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert readable([word]) == [expected]


def test_a_path_that_is_there_is_one_value_whatever_its_commas(tmp_path):
    (tmp_path / "a,b").mkdir()
    assert readable([f"data.root={tmp_path}/a,b"]) == [f"data.root='{tmp_path}/a,b'"]
    assert readable(["-m", f"data.root={tmp_path}/a,b"]) == ["-m", f"data.root={tmp_path}/a,b"]


def test_each_value_of_a_sweep_is_quoted_for_itself(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert readable(["-m", "data.root=~/a (1),b,~/c"]) == ["-m", "data.root='/home/me/a (1)',b,/home/me/c"]


def test_a_home_folder_that_there_is_not_is_an_error(monkeypatch):
    with pytest.raises(ValueError, match=r"^output_dir: got '~nobody_here/x'; there is no user 'nobody_here'"):
        readable(["output_dir=~nobody_here/x"])
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(ValueError, match=r"^output_dir: got '~/x'; you have no home folder"):
        readable(["output_dir=~/x"])


def test_a_list_that_is_too_long_for_a_path_stays():
    word = f"loss.class_weights={','.join(['1'] * 300)}"
    assert readable([word]) == [word]


def test_what_is_trusted_is_found_among_values_that_need_quotes():
    assert named_in(["data.root=~/trust", "trust=[my_heads]"]) == ["my_heads"]


def test_keys_that_are_given_twice_are_found_with_their_last_value():
    assert repeated(["seed=1", "data=digits", "++seed=2", "data=digits", "-m", "~logger"]) == {"seed": "2"}


def test_what_is_trusted_is_read_back_as_it_was():
    assert trusting([]) == []
    assert trusting(["my.module"]) == ["trust=[my.module]"]
    assert named_in(trusting(["my.module", "/photos, old/of mine"])) == ["my.module", "/photos, old/of mine"]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("output_dir='/here/outputs'", "output_dir=/here/outputs"),
        ("data.root='My photos (old)'", "data.root=My photos (old)"),
        ("data.root='a,b'", "data.root='a,b'"),
        ("data.root='~/photos'", "data.root='~/photos'"),
        ("experiment='null'", "experiment='null'"),
        ("models=[a,b]", "models=[a,b]"),
        ("~data.root", "~data.root"),
    ],
)
def test_an_override_is_shown_without_quotes_that_nobody_types(override, expected):
    assert as_typed(override) == expected


@pytest.mark.parametrize("name", ["photos", "my photos", "it's", "a=b", "old (2)", 'an "x"', "a, b"])
def test_what_is_typed_into_a_shell_is_read_back_as_it_was(name, tmp_path):
    path = tmp_path / name
    path.mkdir()
    (word,) = readable(shlex.split(for_shell("data.root", path)))
    assert parsed(word).value() == str(path)
