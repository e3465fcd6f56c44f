"""`regraft rank` prints a row per candidate, and names those that it leaves out."""

import csv

import torch

from helpers.command_line import run_main

WORDS = ["rank", "data=digits", "data.fraction=0.2", "trainer=cpu"]


def test_candidates_are_listed_with_the_best_first_and_others_by_their_reason(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    code, out, _ = run_main([*WORDS, "models=[simple_cnn,resnet18]", "sizes=[8,16]", "output=ranks.csv"], capsys)
    assert code == 0
    assert "Left out: resnet18 at 8, 16 px: the weights aren't on this machine." in out
    with (tmp_path / "ranks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == ["simple_cnn"] * 2
    assert {row["image_size"] for row in rows} == {"8", "16"}
    assert float(rows[0]["loo_loss"]) <= float(rows[1]["loo_loss"])
    assert rows[0]["is_beaten"] == "False"
    assert all(
        0 < float(row["loo_acc"]) <= 1 and 0 < float(row["neighbours_acc"]) <= 1 and float(row["seconds_per_image"]) > 0
        for row in rows
    )
    printed = [line.split() for line in out.splitlines() if line.split()[1:2] == ["simple_cnn"]]
    assert printed[0][:3] == ["=", "simple_cnn", rows[0]["image_size"]]


def test_if_nothing_can_be_compared_the_reasons_are_errors(capsys, tmp_path):
    code, out, err = run_main(
        ["rank", "models=[simple_cnn]", "data=folder", f"data.root={tmp_path / 'nowhere'}"], capsys
    )
    assert (code, out) == (1, "")
    assert "there is no folder" in err
