import csv
import io
import json
import logging
import os
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.shards import png, write_shards, write_tar
from regraft.core.content_hash import content_hash
from regraft.core.errors import ConfigError, ConfigErrors
from regraft.data.images.decoding import decode_image
from regraft.data.shards import index as shard_index
from regraft.data.shards.samples import ShardImages
from regraft.data.sources.base import Samples, Splits
from regraft.data.sources.webdataset import WebDatasetSource


def read(urls: Any, **options: Any) -> Splits:
    source = WebDatasetSource(urls=urls, **options)
    source.prepare()
    return source.splits()


def images(samples: Samples | None) -> ShardImages:
    assert isinstance(samples, ShardImages)
    return samples


def names(samples: Samples | None) -> list[str]:
    found = images(samples)
    return [found.name(index) for index in range(len(found))]


def errors_of(urls: Any, **options: Any) -> list[str]:
    with pytest.raises((ConfigErrors, ConfigError)) as found:
        read(urls, **options)
    return list(found.value.messages) if isinstance(found.value, ConfigErrors) else [str(found.value)]


def test_images_of_shards_are_addressed_by_their_number(tmp_path: Path) -> None:
    splits = read(write_shards(tmp_path))
    found = images(splits.train)
    assert splits.class_names == ("0", "1")
    assert found.labels.tolist() == [number % 2 for number in range(12)]
    assert names(found)[3:5] == ["photos-000.tar/0003.png", "photos-001.tar/0004.png"]
    assert [found.path(index).read_bytes() for index in range(12)] == [png(number) for number in range(12)]
    assert found.content_hashes().tobytes() == b"".join(content_hash(png(number)) for number in range(12))


def test_labels_of_json_are_found_or_named_and_texts_come_first(tmp_path: Path) -> None:
    about = [{"label": "ab"[number % 2], "colour": "xyz"[number], "cls": 9} for number in range(3)]
    members = {f"{n}.{e}": c for n in range(3) for e, c in (("jpg", png(n)), ("json", about[n]))}
    urls = str(write_tar(tmp_path / "a.tar", members))
    assert read(urls, label="label").class_names == ("a", "b")
    assert read(urls, label="colour").class_names == ("x", "y", "z")
    members |= {f"{number}.cls": number for number in range(3)}
    with_texts = {name: members[name] for name in sorted(members)}
    assert read(str(write_tar(tmp_path / "a.tar", with_texts))).class_names == ("0", "1", "2")


@pytest.mark.parametrize("extension", ["csv", "jsonl"])
def test_labels_of_a_table_by_key_or_name(tmp_path: Path, extension: str) -> None:
    urls = write_shards(tmp_path)
    rows = [("0001", "cat"), ("0004.png", "dog"), ("photos-002.tar/0011.png", "cat"), ("0002", "dog")]
    table = tmp_path / f"labels.{extension}"
    if extension == "csv":
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([("key", "label"), *rows])
    else:
        table.write_text("\n".join(json.dumps({"key": key, "label": label}) for key, label in rows))
    splits = read(urls, table=str(table))
    assert splits.class_names == ("cat", "dog")
    expected = ["photos-000.tar/0001.png", "photos-001.tar/0004.png", "photos-002.tar/0011.png"]
    assert names(splits.train) == [*expected, "photos-000.tar/0002.png"]
    found = images(splits.train)
    assert [found.path(index).read_bytes() for index in range(4)] == [png(number) for number in (1, 4, 11, 2)]
    table.write_text("key,label\n0001,cat\nlost,dog\n")
    table = table.rename(tmp_path / "other.csv")
    (error,) = errors_of(urls, table=str(table))
    assert "1 row of other.csv with files that aren't there: line 3 (lost)" in error


def test_names_of_classes_beside_shards(tmp_path: Path) -> None:
    urls = write_shards(tmp_path)
    (tmp_path / "classnames.txt").write_text("zebra\nant\n")
    splits = read(urls)
    assert splits.class_names == ("ant", "zebra")
    assert splits.train.labels.tolist() == [1 - number % 2 for number in range(12)]
    (tmp_path / "one.txt").write_text("zebra\n")
    assert (
        "it has 1 names, and the cls of photos-000.tar/0001.png is 1"
        in errors_of(urls, class_names=str(tmp_path / "one.txt"))[0]
    )


def test_groups_weights_slices_and_several_labels(tmp_path: Path) -> None:
    about = [{"tags": "a|b" if number else "b", "who": number // 2, "w": 1 + number, "cam": "A"} for number in range(4)]
    members = {f"{n}.{e}": c for n in range(4) for e, c in (("png", png(n)), ("json", about[n]))}
    urls = str(write_tar(tmp_path / "a.tar", members))
    splits = read(urls, task="multilabel", label="tags", group="who", weight="w", slices=["cam"])
    assert splits.class_names == ("a", "b")
    assert splits.train.labels.tolist() == [[0, 1], [1, 1], [1, 1], [1, 1]]
    columns = splits.train.columns
    assert columns.groups is not None
    assert columns.groups.tolist() == ["0", "0", "1", "1"]
    assert columns.weights is not None
    assert columns.weights.tolist() == [1, 2, 3, 4]
    assert read(urls, task="regression", label="w").train.labels.tolist() == [[1], [2], [3], [4]]


def test_splits_by_names_by_mapping_and_by_a_key(tmp_path: Path) -> None:
    write_shards(tmp_path, (3, 2), "birds-train")
    write_shards(tmp_path, (2,), "birds-val")
    for urls in (str(tmp_path), f"{tmp_path}/*.tar", f"{tmp_path}/birds-{{train-{{000,001}},val-000}}.tar"):
        splits = read(urls)
        assert names(splits.val) == ["birds-val-000.tar/0000.png", "birds-val-000.tar/0001.png"]
        assert len(splits.train) == 5
    splits = read({"train": f"{tmp_path}/birds-val-000.tar", "test": [f"{tmp_path}/birds-train-{{000..001}}.tar"]})
    assert (len(splits.train), splits.val, len(images(splits.test))) == (2, None, 5)
    members = {f"{n}.{e}": c for n in range(4) for e, c in (("png", png(n)), ("cls", n % 2))}
    members |= {f"{number}.json": {"split": "train" if number < 2 else "test"} for number in range(4)}
    splits = read(str(write_tar(tmp_path / "a.tar", {name: members[name] for name in sorted(members)})))
    assert names(splits.test) == ["a.tar/2.png", "a.tar/3.png"]
    assert "others don't: a.tar" in errors_of(str(tmp_path))[0]
    write_shards(tmp_path, (2,), "val")
    assert "no shards are those of train, only of val" in errors_of(f"{tmp_path}/val-000.tar")[0]


def test_one_of_several_images_is_named(tmp_path: Path) -> None:
    members = {f"{n}.{e}": png(n + 10 * (e == "left.png")) for n in range(2) for e in ("left.png", "PNG")}
    members |= {f"{number}.cls": number for number in range(2)}
    urls = str(write_tar(tmp_path / "a.tar", {name: members[name] for name in sorted(members)}))
    assert "2 samples of a.tar with several images: a.tar/0, a.tar/1." in errors_of(urls)[0]
    assert names(read(urls, image="left.png").train) == ["a.tar/0.left.png", "a.tar/1.left.png"]
    found = images(read(urls, image=["webp", "png"]).train)
    assert found.path(1).read_bytes() == png(1)
    assert "2 samples of a.tar with no image" in errors_of(urls, image="right.png")[0]


def test_the_index_is_made_once_and_noticed_if_it_is_stale(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = write_shards(tmp_path / "shards", (2, 2))
    with caplog.at_level(logging.INFO, "regraft"):
        first = read(urls)
        assert "Indexing 2 of 2 shards, once" in caplog.text
        caplog.clear()
        assert read(urls).train.labels.equal(first.train.labels)
        assert "Indexing" not in caplog.text
        shard = tmp_path / "shards" / "photos-001.tar"
        write_tar(shard, {"9.png": png(9), "9.cls": 1})
        assert names(read(urls).train)[2:] == ["photos-001.tar/9.png"]
        assert "Indexing 1 of 2 shards" in caplog.text
        with pytest.raises(OSError, match="has changed since it was indexed"):
            images(first.train).path(2).read_bytes()
        Path(f"{shard}{shard_index.SUFFIX}").write_bytes(b"damaged")
        caplog.clear()
        assert len(read(urls).train) == 3
        assert "is damaged (" in caplog.text


def test_the_index_lies_in_the_cache_where_it_cannot_be_written_beside_the_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path / "cache"))
    urls = write_shards(tmp_path / "shards", (2,))
    Path(f"{urls.partition('{')[0]}000.tar{shard_index.SUFFIX}").mkdir()
    assert len(read(urls).train) == 2
    assert len(list((tmp_path / "cache" / "shards").iterdir())) == 1
    caplog.clear()
    with caplog.at_level(logging.INFO, "regraft"):
        assert len(read(urls).train) == 2
    assert "Indexing" not in caplog.text


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "p-0.tar", {"a.png": png(0), "a.cls": 0, "b.png": png(1)}).read_bytes()
    with tarfile.open(tmp_path / "p-0.tar") as archive:
        second = archive.getmembers()[1].offset
    (tmp_path / "p-1.tar").write_bytes(whole[:600])
    (tmp_path / "p-2.tar").write_bytes(whole[:second] + b"x" * 512 + whole[second + 512 :])
    (tmp_path / "p-3.tar").write_bytes(b"")
    write_tar(tmp_path / "p-4.tar", {})
    with tarfile.open(tmp_path / "p-5.tar", "w:gz"):
        pass
    (tmp_path / "p-6.tar").write_bytes(b"no tar file" * 1000)
    texts = {"n.png": b"not an image", "n.cls": 1, "j.png": png(5), "j.json": "[1]", "t.png": png(6), "t.cls": b"\xff"}
    write_tar(tmp_path / "p-7.tar", texts)
    with tarfile.open(tmp_path / "p-8.tar", "w") as archive:
        for name in ("d.png", "d.png", "d.cls", "e.png", "e.cls", "d.txt", "f.cls"):
            member, data = tarfile.TarInfo(name), png(3) if name.endswith("png") else b"1"
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 10
    nested = (header.tobuf() + b"10 a=bcdef".ljust(512, b"\0")) * 2000
    (tmp_path / "p-10.tar").write_bytes(nested)
    (tmp_path / "p-11.tar").write_bytes(write_tar(tmp_path / "x.tar", {"0.png": b""}).read_bytes()[:512] + nested)
    errors = "\n".join(errors_of(f"{tmp_path}/p-{{0..11}}.tar"))
    for expected in (
        f"1 of 12 shards can't be found: {tmp_path}/p-9.tar",
        "8 of 12 shards can't be read as a whole",
        "p-1.tar: it is cut off within a.png",
        "p-2.tar: the header after a.png is damaged",
        "p-3.tar: it has zero bytes",
        "p-4.tar: it holds no file with an extension",
        "p-5.tar: it is compressed with gzip",
        "p-6.tar: it is not a tar file",
        "p-10.tar: its first header is damaged",
        "p-11.tar: the header after 0.png is damaged",
        "with no label: p-0.tar/b.png",
        "with a label or JSON that can't be read: p-7.tar/j.png, p-7.tar/t.png",
        "with a file that occurs twice: p-8.tar/d.png",
        "with the key of an earlier sample: p-8.tar/d",
        "with no image: p-8.tar/f",
        "can't be decoded: p-7.tar/n.png: not an image",
    ):
        assert expected in errors, expected


def test_what_cannot_be_read_is_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    members = {f"{n}.{e}": c for n in range(6) for e, c in (("png", png(n)), ("cls", n % 2))}
    content = write_tar(tmp_path / "a.tar", members | {"4.png": b"no image", "5.cls": ""}).read_bytes()
    (tmp_path / "b.tar").write_bytes(content[: 512 * 14 - 100])
    splits = read([f"{tmp_path}/{name}.tar" for name in "abc"], on_error="skip")
    assert names(splits.train)[:4] == [f"a.tar/{number}.png" for number in range(4)]
    assert splits.skipped[f"{tmp_path}/c.tar"] == "it isn't there"
    assert splits.skipped[f"{tmp_path}/b.tar"].startswith("it is cut off within ")
    assert splits.skipped["a.tar/5.png"] == "no label"
    assert splits.skipped["a.tar/4.png"].startswith("not an image")
    assert "Shards that are left out from where they can't be read" in caplog.text


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pickle-was-loaded",)


def test_pickles_are_never_loaded_and_odd_members_are_harmless(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    link, device = tarfile.TarInfo("2.png"), tarfile.TarInfo("3.png")
    link.type, link.linkname, device.type = tarfile.SYMTYPE, "/etc/passwd", tarfile.CHRTYPE
    evil = pickle.dumps(Evil())
    members: Mapping[str, Any] = {
        "/0.png": png(0),
        "/0.cls": 0,
        "/0.pyd": evil,
        "../../1.png": png(1),
        "../../1.cls": 1,
        "../../1.pkl": evil,
        "../../1.pt": evil,
        "../../1.npy": b"",
        "2.png": link,
        "3.png": device,
        "__meta__": "none",
        "a/._0.png": b"of a Mac",
        "README": "text",
    }
    with caplog.at_level(logging.INFO, "regraft"):
        splits = read(str(write_tar(tmp_path / "a.tar", members)))
    assert names(splits.train) == ["a.tar//0.png", "a.tar/../../1.png"]
    assert [images(splits.train).path(index).read_bytes() for index in range(2)] == [png(0), png(1)]
    assert "are never loaded: a.tar//0.pyd, a.tar/../../1.pkl, a.tar/../../1.pt." in caplog.text
    assert "Members that are not plain files are ignored: a.tar/2.png, a.tar/3.png." in caplog.text
    assert not Path("pickle-was-loaded").exists()
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == []


def test_a_command_runs_only_if_it_is_trusted_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path / "cache"))
    write_shards(tmp_path / "shards", (2, 2))
    urls = f"pipe:echo x >> {tmp_path}/ran; cat {tmp_path}/shards/photos-{{000..001}}.tar"
    assert "trust=[pipe]" in errors_of(urls)[0]
    assert not (tmp_path / "ran").exists()
    for trust in (["pipe"], [urls]):
        splits = read(urls, trust=trust)
        assert splits.train.content_hashes().tobytes() == b"".join(content_hash(png(number)) for number in range(4))
    assert (tmp_path / "ran").read_text() == "x\nx\n"
    (error,) = errors_of("pipe:cat nothing.tar; exit 3", trust=["pipe"])
    assert "webdataset can't read pipe:cat nothing.tar; exit 3" in error
    assert not list((tmp_path / "cache").rglob("*.temp*"))


def test_a_copy_that_is_cut_off_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path / "cache"))
    write_shards(tmp_path / "shards", (2,))
    urls = f"pipe:head -c 700 {tmp_path}/shards/photos-000.tar"
    (error,) = errors_of(urls, trust=["pipe"])
    (copy,) = (tmp_path / "cache").rglob("*.tar")
    assert f"it is cut off within 0000.png (delete {copy} to copy it again)" in error


def test_compressed_shards_are_refused_by_name(tmp_path: Path) -> None:
    shard = Path(write_shards(tmp_path, (2,)).replace("{000..000}", "000"))
    for name in ("photos-000.tar.gz", "photos-001.tgz"):
        (tmp_path / name).write_bytes(b"")
    (error,) = errors_of(str(tmp_path))
    assert f"a compressed file: {tmp_path}/photos-001.tgz. Unpack it: gzip -d {tmp_path}/photos-001.tgz" in error
    assert "Unpack it: zstd -d a.tar.zst" in errors_of(["a.tar.zst", str(shard)])[0]
    assert "'pipe:curl -sL ADDRESS | xz -dc'" in errors_of("https://nowhere.invalid/a-{0..1}.tar.xz?key=1")[0]


def test_a_command_that_braces_hide_and_a_file_called_like_one_dont_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for urls in ("{pipe:touch ran;,x}.tar", "{p,q}ipe:touch ran; cat {1..2}.tar", "PIPE:touch ran"):
        assert "trust=[pipe]" in errors_of(urls)[0]
    write_tar(Path("pipe:touch ran; cat x.tar"), {"a.png": png(0), "a.cls": "0", "b.png": png(1), "b.cls": "1"})
    for urls in (".", "*.tar"):
        assert len(read(urls).train) == 2
    assert not Path("ran").exists()


def test_braces_that_are_wrong(tmp_path: Path) -> None:
    assert "its braces aren't balanced" in errors_of("photos-{0..1.tar")[0]
    assert "at most 1,000,000 shards" in errors_of("photos-{0..9}{000000..999999}.tar")[0]
    write_shards(tmp_path)
    shard = f"{tmp_path}/photos-000.tar"
    assert f"it names shards twice: {shard}" in errors_of([shard, shard])[0]
    assert "there is no .tar file in" in errors_of(str(tmp_path.parent))[0]
    assert "can't be found: nothing.tar" in errors_of("nothing.tar")[0]
    os.mkfifo(tmp_path / "fifo.tar")
    assert "fifo.tar: it is not a regular file" in errors_of(str(tmp_path / "fifo.tar"))[0]


def test_images_of_train_and_val_are_joined(tmp_path: Path) -> None:
    write_shards(tmp_path, (2, 1), "train")
    write_shards(tmp_path, (2,), "val")
    splits = read(str(tmp_path))
    joined = images(splits.train).joined_with(images(splits.val))
    contents = [joined.path(index).read_bytes() for index in range(5)]
    assert contents == [png(number) for number in (0, 1, 2, 0, 1)]
    assert joined.labels.tolist() == [0, 1, 0, 0, 1]


def test_pixels_equal_those_of_a_file(tmp_path: Path) -> None:
    from regraft.core.pixel_format import PixelFormat

    found = images(read(write_shards(tmp_path, (2,))).train)
    (tmp_path / "1.png").write_bytes(png(1))
    path = tmp_path / "1.png"
    assert torch.equal(decode_image(found.path(1), PixelFormat()), decode_image(path, PixelFormat()))
    facts, details = found.facts()
    assert details == {}
    assert np.array_equal(facts["content_hash"], found.content_hashes())
