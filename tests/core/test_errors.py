import pickle

import pytest

from regraft.core.errors import ConfigError, ConfigErrors, MissingFileError, UnknownNameError

ERRORS = [
    (ConfigError("seed", got=-1, allowed="0 or more"), "seed: got -1; allowed: 0 or more."),
    (ConfigError("seed", got=None, allowed=["a", "b"], fix="Drop it."), "seed: got null; allowed: a, b. Drop it."),
    (ConfigError("run", "it hasn't finished"), "run: it hasn't finished."),
    (ConfigError(None, "nothing is here."), "nothing is here."),
    (MissingFileError("data.root", "there is no folder x"), "data.root: there is no folder x."),
    (UnknownNameError("lrr", "key", "lrr", ["lr"]), "lrr: unknown key 'lrr'. Did you mean 'lr'? Allowed: lr."),
]  # fmt: skip


@pytest.mark.parametrize(("error", "message"), ERRORS)
def test_a_message_says_what_got_allowed_and_fix_and_survives_another_process(error, message):
    copied = pickle.loads(pickle.dumps(error))
    assert str(error) == str(copied) == message
    assert type(copied) is type(error)
    assert copied == error
    assert error.about("x").key == "x"
    assert isinstance(error.about("x"), type(error))


def test_a_group_keeps_equal_mistakes_once_and_is_a_value_error():
    errors = ConfigErrors([ERRORS[0][0], ERRORS[4][0], ConfigError("seed", got=-1, allowed="0 or more")])
    assert errors.messages == (ERRORS[0][1], ERRORS[4][1])
    assert pickle.loads(pickle.dumps(errors)).messages == errors.messages
    with pytest.raises(ValueError, match=r"^seed: got -1; allowed: 0 or more\.\ndata\.root"):
        raise errors


def test_a_missing_file_is_found_by_either_kind():
    assert isinstance(ERRORS[4][0], FileNotFoundError)
    assert isinstance(ERRORS[4][0], ValueError)


def test_an_error_made_again_from_its_message_says_it():
    assert str(ConfigError("data.root: can't decode x.")) == "data.root: can't decode x."
