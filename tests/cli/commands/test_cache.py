import pytest
import torch
from rich.filesize import decimal

from helpers.command_line import imported_by, run_main
from regraft.features.store.entry import StoreEntry


@pytest.fixture
def store(tmp_path):
    """A store of two pools, of 3 and 5 images."""
    for name, num_rows in (("first", 3), ("second", 5)):
        pool = StoreEntry(tmp_path / "store", {"name": name}, name, (4,), torch.float32)
        digests = torch.arange(num_rows * 16, dtype=torch.uint8).reshape(num_rows, 16).numpy()
        with pool.lock(pytest.fail):
            pool.append(digests, torch.ones(num_rows, 4), 1.0)
    return tmp_path / "store"


def test_ls_shows_a_row_a_pool_and_the_total(store, capsys):
    code, out, _ = run_main(["cache", "ls", f"dir={store}"], capsys)
    assert code == 0
    rows = {name: next(line for line in out.splitlines() if name in line) for name in ("first", "second")}
    assert " 3 " in rows["first"]
    assert " 5 " in rows["second"]
    assert StoreEntry(store, {"name": "first"}, "first", (4,), torch.float32).key[:8] in rows["first"]
    assert f"2 entries, {size_text(store)} in {store}" in out


def test_size_is_the_bytes_on_the_disk(store, capsys):
    assert run_main(["cache", "size", f"dir={store}"], capsys)[1] == f"2 entries, {size_text(store)} in {store}\n"


def size_text(store) -> str:
    num_bytes = sum(path.stat().st_size for path in store.glob("*/*"))
    return decimal(num_bytes)


def test_clear_by_key_then_all(store, capsys):
    key = StoreEntry(store, {"name": "first"}, "first", (4,), torch.float32).key
    assert "Deleted 1 entry" in run_main(["cache", "clear", key[:6], f"features.dir={store}"], capsys)[1]
    _, out, _ = run_main(["cache", "ls", f"dir={store}"], capsys)
    assert "second" in out
    assert "first" not in out
    assert "Deleted 1 entry" in run_main(["cache", "clear", f"dir={store}"], capsys)[1]
    assert run_main(["cache", "size", f"dir={store}"], capsys)[1].startswith("0 entries, 0 bytes")


def test_an_empty_store_is_no_mistake(capsys, tmp_path):
    for action in ("ls", "size", "clear"):
        code, out, _ = run_main(["cache", action], capsys)
        assert code == 0
        assert "0 entries" in out
    assert not (tmp_path / "cache").exists()


def test_a_damaged_pool_is_shown_as_such(store, capsys):
    for path in store.glob("*/meta.json"):
        path.write_text("{")
    code, out, _ = run_main(["cache", "ls", f"dir={store}"], capsys)
    assert code == 0
    assert out.count("meta.json is damaged") == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "regraft cache ls | size | clear"),
        (["claer"], "unknown word 'claer'. Did you mean 'clear'?"),
        (["ls", "dri=x"], "unknown key 'dri'. Did you mean 'dir'?"),
        (["ls", "abc"], "got 'ls abc'"),
        (["clear", "nosuchkey"], "starts with 'nosuchkey'"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence, capsys):
    code, _, err = run_main(["cache", *arguments], capsys)
    assert code == 1
    assert sentence in err
    assert err.count("\n") == 1


def test_it_answers_without_torch():
    assert not imported_by("from regraft.cli.commands.cache import run; run(['ls'])", ["torch", "numpy"])
