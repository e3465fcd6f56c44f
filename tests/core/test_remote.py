"""Tables at addresses are fetched, outputs are copied there; what must be on a file system says so."""

import fsspec
import pytest

from helpers.command_line import run_main
from regraft.core.remote import fetched, is_remote, output_at, require_local

ROWS = "text,label\n" + "".join(f"{word} {number},{word}\n" for number in range(8) for word in ("good", "bad"))


@pytest.fixture
def bucket():
    files = fsspec.filesystem("memory")
    files.pipe("/bucket/reviews.csv", ROWS.encode())
    yield files
    files.rm("/bucket", recursive=True)


def test_what_is_an_address():
    assert all(map(is_remote, ("s3://b/x.csv", "memory://x", "HTTPS://h/x")))
    assert not any(map(is_remote, ("/x", "x.csv", "C:/x", "a:b.csv", "./s3://x", None, 3)))


def test_a_file_is_fetched_once_and_again_when_it_changes(bucket, monkeypatch):
    first = fetched("memory://bucket/reviews.csv", "data.path")
    assert (first.name, first.read_text()) == ("reviews.csv", ROWS)
    with monkeypatch.context() as patch:
        patch.setattr(type(bucket), "open", None)
        assert fetched("memory://bucket/reviews.csv", "data.path") == first
    bucket.pipe("/bucket/reviews.csv", b"text,label\n")
    assert fetched("memory://bucket/reviews.csv", "data.path").read_text() == "text,label\n"


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("memory://bucket/other.csv", "data.path: there is nothing at memory://bucket/other.csv"),
        ("nowhere://x.csv", r"data.path: nowhere://x.csv can't be read \(ValueError: Protocol not known: nowhere"),
    ],
)
def test_what_cant_be_fetched_is_one_sentence(address, sentence, bucket):
    with pytest.raises(ValueError, match=sentence):
        fetched(address, "data.path")


def test_a_missing_package_is_named(monkeypatch):
    def url_to_fs(address: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", url_to_fs)
    with pytest.raises(
        ValueError, match=r"s3://b/x.csv can't be read without a package\. Install s3fs to access S3\.$"
    ):
        fetched("s3://b/x.csv", "data.path")


def test_a_table_at_an_address_is_checked(bucket, capsys):
    words = ["data=text_table", "data.path=memory://bucket/reviews.csv"]
    code, out, err = run_main(["data", "check", *words], capsys)
    assert code in (0, 1), err
    assert "16" in out
    assert "can't be read" not in err


def test_files_and_folders_are_copied_to_an_address_as_a_whole(bucket, tmp_path):
    with output_at("memory://bucket/new/table.csv", "output") as path:
        path.write_text("a")
    assert bucket.cat("/bucket/new/table.csv") == b"a"
    for names in (("one", "two/three"), ("four",)):
        with output_at(f"file://{tmp_path}/to/model", "output") as path:
            for name in names:
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                (path / name).write_text(name)
        there = tmp_path / "to" / "model"
        assert sorted(str(each.relative_to(there)) for each in there.rglob("*") if each.is_file()) == sorted(names)
    with pytest.raises(ZeroDivisionError), output_at("memory://bucket/failed.csv", "output") as path:
        path.write_text(str(1 / 0))
    assert not bucket.exists("/bucket/failed.csv")
    with output_at(str(tmp_path / "local"), "output") as path:
        assert path == tmp_path / "local"


def test_an_output_that_cant_be_written_is_said_before_anything_is_computed(bucket):
    for address, reason in (
        ("memory://bucket/reviews.csv", "is there already"),
        ("nowhere://x.csv", "can't be written"),
    ):
        with pytest.raises(ValueError, match=rf"output: .*{reason}"), output_at(address, "output", replaces=False):
            pytest.fail("nothing may be computed")


@pytest.mark.parametrize("key", ["output_dir", "data.root", "features.dir"])
def test_what_must_be_on_a_file_system_says_so(key):
    with pytest.raises(ValueError, match=rf"^{key}: got 's3://b'; .*file system.* Give a path\.$"):
        require_local("s3://b", key)
    require_local("/b", key)


def test_a_run_at_an_address_is_refused(capsys):
    code, _, err = run_main(["train", "data=digits", "output_dir=s3://bucket/runs"], capsys)
    assert code == 1
    assert "output_dir: got 's3://bucket/runs'; checkpoints, runs and stores are on a file system" in err
