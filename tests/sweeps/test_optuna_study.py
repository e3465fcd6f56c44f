import optuna
import pytest

from regraft.sweeps import optuna_storage
from regraft.sweeps import optuna_study as studies
from regraft.sweeps.space import Choices, Numbers, Space

LR = Numbers(1e-5, 1e-1, None, True, False)
SPACE = Space((), {"lr": LR, "head": Choices(("a", "b"))})


def journal_of(folder, num_trials):
    study = studies.study_at(
        optuna_storage.storage_at(optuna_storage.address(None, folder)), "s", ["val/acc"], ["maximize"]
    )
    for value in range(num_trials):
        study.tell(study.ask({"x": optuna.distributions.FloatDistribution(0, 1)}), value)
    return folder / optuna_storage.JOURNAL


def loaded(journal):
    return optuna.load_study(study_name="s", storage=optuna_storage.storage_at(str(journal)))


def test_a_study_lies_in_the_sweep_or_where_it_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert optuna_storage.address(None, tmp_path / "sweep") == str(tmp_path / "sweep" / "study.journal")
    assert optuna_storage.address("sqlite:///a.db", tmp_path) == f"sqlite:///{tmp_path}/a.db"
    assert optuna_storage.address("sqlite:////a/b.db", tmp_path) == "sqlite:////a/b.db"
    assert optuna_storage.address("postgresql://host/db", tmp_path) == "postgresql://host/db"
    assert optuna_storage.address("mine.journal", tmp_path / "x") == str(tmp_path / "mine.journal")


def test_a_database_holds_a_study_too(tmp_path):
    place = optuna_storage.address(f"sqlite:///{tmp_path}/a.db", tmp_path)
    first = studies.study_at(optuna_storage.storage_at(place), "s", ["val/acc"], ["maximize"])
    first.tell(first.ask(), 0.5)
    again = studies.study_at(optuna_storage.storage_at(place), "s", ["val/acc"], ["maximize"])
    assert again.best_value == 0.5


def test_a_database_that_is_not_there_is_said_in_a_sentence():
    with pytest.raises(ValueError, match=r"sweep\.storage: nothing can't be opened"):
        optuna_storage.storage_at("nothing://host/db")
    with pytest.raises(ValueError, match=r"sweep\.storage: mssql needs a driver that isn't installed"):
        optuna_storage.storage_at("mssql://host/db")


def test_a_study_keeps_its_metrics(tmp_path):
    journal = journal_of(tmp_path, 1)
    with pytest.raises(ValueError, match=r"has val/acc \(maximize\)"):
        studies.study_at(optuna_storage.storage_at(str(journal)), "s", ["val/loss"], ["minimize"])


@pytest.mark.parametrize("name", ["tpe", "random", "cmaes", "nsgaii", "grid"])
def test_samplers_have_short_names(name):
    space = Space((), {"head": Choices(("a", "b"))}) if name == "grid" else SPACE
    study = optuna.create_study(sampler=studies.sampler(name, {}, 0, space))
    trial = study.ask({key: studies.distribution(axis) for key, axis in space.axes.items()})
    assert trial.params["head"] in ("a", "b")


def test_mistakes_in_samplers_and_pruners_are_sentences():
    with pytest.raises(ValueError, match=r"sweep\.sampler: unknown sampler 'tp'\. Did you mean 'tpe'"):
        studies.sampler("tp", {}, 0, SPACE)
    with pytest.raises(ValueError, match=r"sweep\.sampler: got .tpe.; .*n_startup"):
        studies.sampler("tpe", {"n_startup": 3}, 0, SPACE)
    with pytest.raises(ValueError, match="an interval has infinitely many values"):
        studies.sampler("grid", {}, 0, SPACE)
    with pytest.raises(ValueError, match=r"sweep\.pruner: unknown pruner 'media'\. Did you mean 'median'"):
        studies.pruner("media", {})


def test_a_study_goes_on_with_other_ends_but_not_with_other_choices(tmp_path):
    study = optuna.create_study()
    study.tell(study.ask({key: studies.distribution(axis) for key, axis in SPACE.axes.items()}), 1.0)
    studies.require_same_kinds(study, {"lr": studies.distribution(Numbers(1e-3, 1, None, True, False))})
    with pytest.raises(ValueError, match="head: the study has it as"):
        studies.require_same_kinds(study, {"head": studies.distribution(Choices(("a", "c")))})


@pytest.mark.parametrize("cut", [1, 20])
def test_a_journal_that_a_full_disk_cut_off_is_read_again(tmp_path, cut):
    journal = journal_of(tmp_path, 3)
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-cut])
    optuna_storage.cut_half_entry(journal)
    assert [trial.value for trial in loaded(journal).trials[:2]] == [0, 1]
    assert journal.read_bytes() == b"".join(whole.splitlines(keepends=True)[:-1])


def test_a_journal_with_half_an_entry_in_its_middle_says_what_to_do(tmp_path):
    journal = journal_of(tmp_path, 2)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:-1], b'{"op_code":8,"worker_id":"x","tri', *lines[-2:]]))
    with pytest.raises(ValueError, match="can't be read"):
        loaded(journal)


def test_a_sound_journal_stays_as_it_is(tmp_path):
    journal = journal_of(tmp_path, 2)
    before = journal.read_bytes()
    optuna_storage.cut_half_entry(journal)
    assert journal.read_bytes() == before
    optuna_storage.cut_half_entry(tmp_path / "none")
