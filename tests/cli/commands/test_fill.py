"""`regraft fill` stores what a training reads, by shares, by ranks and by a launcher's jobs."""

import re

import pytest

import regraft
from helpers.command_line import run_main
from helpers.small import without
from regraft.core import launcher
from regraft.features.share import Share
from regraft.training.fit.filling import share_of

FROZEN = [*without("freezing", "trainer.max_epochs", "logger"), "freezing=linear_probe"]
GROUP = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "TORCHELASTIC_RUN_ID"),
    *("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_JOB_ID"),
)
SUMMARY = re.compile(r"^([\d,]+) of ([\d,]+) images computed .* ([\d,]+) were stored before", re.MULTILINE)


@pytest.fixture(autouse=True)
def _no_group(monkeypatch):
    for name in GROUP:
        monkeypatch.delenv(name, raising=False)


def test_a_training_reads_what_a_launchers_jobs_and_ranks_have_filled(capsys, monkeypatch):
    code, out, err = run_main(["fill", "-m", *FROZEN, "fill.share=1/3,2/3"], capsys)
    assert (code, "2 ok" in out, "Next: the other shares, then regraft train" in out) == (0, True, True), err
    first = {"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "1"}
    first |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "1"}
    for name, value in first.items():
        monkeypatch.setenv(name, value)
    code, out, err = run_main(["fill", *FROZEN, "fill.share=3/3"], capsys)
    # Without trainer.devices=2, with which a head isn't found in closed form.
    assert (code, "Next: the other shares, then regraft train data=digits" in out) == (0, True), err
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    code, out, err = run_main(["fill", *FROZEN, "fill.share=3/3"], capsys)
    assert (code, "stored before" in out, "Next:" in out) == (0, True, False), err  # which the first process says
    for name in GROUP:
        monkeypatch.delenv(name, raising=False)
    run = regraft.train(FROZEN)
    assert run.results["features"]["num_computed"] == 0
    assert run.results["features"]["num_reused"] > 0


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("fill.share=3/2", "fill.share: got '3/2'; allowed: K/N, the Kth of N shares"),
        ("fill=null", "fill: got null; allowed: a section with share"),
        ("fill.shares=1/2", "fill.shares: unknown key 'shares'. Did you mean 'share'?"),
        ("freezing=none", "fill: a training with these settings stores no features: the first stage trains"),
        ("features.cache=off", "fill: a training with these settings stores no features: features.cache=off."),
        ("optimizer.lrr=1", "optimizer.lrr: "),
    ],
)
def test_what_cant_be_filled_is_one_sentence(word, message, capsys):
    code, _, err = run_main(["fill", *FROZEN, word], capsys)
    assert code == 1
    assert err.splitlines()[-1].startswith(f"regraft: {message}")


def test_one_of_several_processes_that_nothing_known_has_started_fills_nothing(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    code, _, err = run_main(["fill", *FROZEN], capsys)
    assert (code, "RANK=1 says that this is one of several" in err) == (1, True)


@pytest.mark.parametrize(("rank", "is_one_of_several"), [(0, False), (5, True)])
def test_a_process_of_several_fills_a_part_of_the_share(rank, is_one_of_several):
    place = launcher.Place("torchrun", rank, 8, 1, 2, rank // 2, 4) if is_one_of_several else None
    assert share_of({"fill": {"share": "2/3"}}, place) == (Share(8 + rank, 24) if is_one_of_several else Share(1, 3))


def test_both_fits_of_a_run_are_counted(capsys, tmp_path):
    """The second fit trains on the validation images too, whose mirror images the first one doesn't read."""
    words = [*FROZEN, "fitting=steps", "augment=flip", "data.refit=true", f"features.dir={tmp_path}"]
    code, out, err = run_main(["fill", *words], capsys)
    assert code == 0, err
    num_computed, num_inputs, num_present = (int(each.replace(",", "")) for each in SUMMARY.search(out).groups())
    assert num_computed > num_inputs / 2
    assert num_computed + num_present == num_inputs
    code, out, err = run_main(["fill", *words], capsys)
    assert (code, SUMMARY.search(out)[1], SUMMARY.search(out)[2].replace(",", "")) == (0, "0", str(num_inputs)), err
