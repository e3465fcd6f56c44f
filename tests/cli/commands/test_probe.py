"""A probe's heads are those of single runs, in one table, and its best one is a run."""

import csv
from typing import Any

import pytest

import regraft
from regraft.report.tables import heads as heads_table
from regraft.runs.folder import Run

KEPT = [
    *("data=digits", "data.fraction=0.1", "data.test_fraction=0.1", "data.subset_seed=0"),
    *("trainer=cpu", "trainer.max_epochs=3", "trainer.enable_progress_bar=false", "logger=csv"),
]
PRETRAINED = [*KEPT, "model=efficientnet_lite0", "model.image_size=32"]
GRID = ["grid.lr=[1e-3,1e-2]", "grid.weight_decay=[0,0.1]", "grid.seed=[0,1]"]


@pytest.fixture(scope="module")
def options(small_run) -> list[str]:
    """The overrides of a probe of a small run's backbone, quicker than a pretrained one."""
    return [*KEPT, "model=checkpoint", f"model.path={small_run.path}"]


def rows_of(run: Run) -> list[dict[str, str]]:
    with (run.path / "grid.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def best_epoch(run: Run) -> dict[str, Any]:
    rows = [row for row in run.logged_rows(10**9) if "val/acc" in row]
    return max(rows, key=lambda row: (row["val/acc"], -row["val/loss"]))


@pytest.fixture(scope="module")
def probed(options, tmp_path_factory) -> Run:
    return regraft.probe([*options, *GRID, f"output_dir={tmp_path_factory.mktemp('probed')}"])


def test_each_trained_head_is_that_of_a_run_of_its_own(probed, options):
    rows = rows_of(probed)
    assert len(rows) == 8
    for row in (rows[place] for place in (3, 4)):  # each value of each axis
        point = [f"optimizer.lr={row['lr']}", f"optimizer.weight_decay={row['weight_decay']}", f"seed={row['seed']}"]
        best = best_epoch(regraft.train([*options, *point, "data.batch_size=64"]))
        assert float(row["val/acc"]) == pytest.approx(best["val/acc"], abs=1e-6)
        assert float(row["val/loss"]) == pytest.approx(best["val/loss"], abs=1e-4)
        assert int(row["best_epoch"]) == best["epoch"]


def table_of(run: Run) -> list[dict[str, Any]]:
    return list(run.results["heads"]["rows"])


def test_all_heads_are_in_one_table(probed):
    found = [(row["name"], row["stages"], row["estimate"]) for row in table_of(probed)]
    assert found == [
        ("mix", "all", "leave-one-out"),
        ("ridge", "all", "leave-one-out"),
        ("LDA", "all", "leave-one-out"),
        ("ridge", "last", "leave-one-out"),
        ("LDA", "last", "leave-one-out"),
        ("logistic regression", "last", "5 folds"),
        ("nearest mean (cosine)", "last", "leave-one-out"),
        ("20 nearest neighbours (cosine)", "last", "leave-one-out"),
        *[("AdamW", "last", "hold-out")] * 3,
    ]
    assert all(0 < row["acc"] <= 1 and row["loss_error"] > 0 and row["seconds"] > 0 for row in table_of(probed))


def test_the_chosen_head_has_the_lowest_loss_and_is_a_run(probed):
    rows = table_of(probed)
    (chosen,) = [row for row in rows if row["is_chosen"]]
    assert chosen["loss"] == min(row["loss"] for row in rows if "cosine" not in row["name"] and row["name"] != "AdamW")
    evaluated = regraft.evaluate([f"ckpt_path={probed.path}"])
    assert {name: evaluated[name] for name in probed.metrics} == pytest.approx(probed.metrics, abs=1e-5)
    picked = {pick["solver"] for pick in probed.results["closed_form"]}
    assert picked <= {"ridge", "discriminant", "logistic"}


def test_the_table_is_printed_and_in_the_report(probed, capsys):
    page = (probed.path / "report.html").read_text()
    assert "Heads that were compared" in page
    assert "20 nearest neighbours (cosine)" in page
    assert "The best head is" in page
    assert "nearest mean" in (probed.path / "report.md").read_text()
    heads_table.show(probed.results)
    out = capsys.readouterr().out
    assert "leave-one-out: each" in out
    assert f"{100 * probed.metrics['test/acc']:.1f}" in out


def test_a_run_starts_with_the_chosen_head(probed, options):
    kept = [option for option in options if not option.startswith("trainer.max_epochs")]
    run = regraft.train([*kept, f"head_from={probed.path}", "optimizer.lr=1e-9", "trainer.max_epochs=1"])
    assert run.config["head"] == probed.config["head"]
    assert run.metrics["test/acc"] == probed.metrics["test/acc"]


def test_the_best_trained_head_is_a_run_where_no_closed_form_is_possible(options):
    run = regraft.probe([*options, *GRID, "report=off", "data.fraction=1.0", "grid.shots=[null,5]", "loss=focal"])
    rows = rows_of(run)
    assert len(rows) == 16
    top = max(rows, key=lambda row: (float(row["val/acc"]), -float(row["val/loss"])))
    config = run.config
    assert (config["optimizer"]["lr"], config["seed"]) == (float(top["lr"]), int(top["seed"]))
    assert "grid" not in config
    assert best_epoch(run)["val/acc"] == pytest.approx(float(top["val/acc"]), abs=1e-6)
    assert [row["shots"] for row in table_of(run)] == [None] * 3 + [5] * 3
    assert any("left out. loss: " in note for note in run.results["heads"]["notes"])


def test_without_validation_images_no_head_is_trained(options):
    run = regraft.probe([*options, "report=off", "data.val_fraction=0"])
    assert len(table_of(run)) == 8
    assert not (run.path / "grid.csv").exists()
    assert any("only if there are validation images" in note for note in run.results["heads"]["notes"])


def test_one_image_of_each_class_leaves_no_estimate_and_no_grid_no_trained_head(options):
    run = regraft.probe([*options, "report=off", "data.fraction=1.0", "data.shots=1", "grid=null", "seed=1"])
    assert [row["estimate"] for row in table_of(run)] == [None] * 6
    assert [row["name"] for row in table_of(run) if row["is_chosen"]] == ["mix"]
    assert any("no image can be left out" in note for note in run.results["heads"]["notes"])


def test_a_grid_of_one_head_with_the_datas_shots(options):
    run = regraft.probe(
        [
            *options,
            "report=off",
            "data.fraction=1.0",
            "data.shots=4",
            "grid.lr=1e-2",
            "grid.weight_decay=0",
            "grid.seed=0",
        ]
    )
    assert run.config["data"]["shots"] == 4
    assert {row["shots"] for row in table_of(run)} == {4}
    assert [row["name"] for row in table_of(run)].count("AdamW") == 1
    assert any("which also chose its epoch" in note for note in run.results["heads"]["notes"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["head=mlp"], "its heads are linear; use head=linear"),
        (["freezing=none"], "use freezing=linear_probe"),
        (["freezing=lp_ft", "head=linear"], "use freezing=linear_probe"),
        (["data.val_fraction=0", "loss=focal"], "trained heads are picked by validation"),
        (["grid=null", "loss=focal"], "the grid is empty, and a closed form isn't possible: loss: "),
        (["grid=null", "head=mlp"], "its heads are linear; use head=linear"),
        (["scheduler=plateau"], "a plateau is each head's own"),
        (["optimizer=lbfgs"], "LBFGS fits one head"),
        (["callbacks=early_stopping"], "every head is fitted for all epochs"),
        (["augment=basic"], "the augmentation draws again"),
        (["model.weights=null"], "random weights"),
        (["features.cache=off"], "stored features"),
        (["grid.lr=[]"], r"grid\.lr: got \[\]; allowed: a list"),
        (["grid.lr=[1e-3,1e-3]"], r"grid\.lr: got .* different values"),
        (["grid.seed=[a]"], r"grid\.seed: got \['a'\]"),
        (["grid.lr=[-1]"], r"grid\.lr: got \[-1\]; allowed: a list of different values, each above 0"),
        (["grid.lrs=[1]"], "grid.lrs: unknown key 'lrs'. Did you mean 'lr'"),
        (["+grid.lrs=[1]"], "allowed: the axes lr, weight_decay, seed, shots"),
        (["grid.shots=[1.5]"], r"grid\.shots: got \[1\.5\]"),
        (["grid=[]"], "a list can't take the place of a section. Set its keys"),
        (["grid=3"], "allowed: the axes"),
        (["optimizer.lr=5"], r"optimizer\.lr: a probe varies it"),
        (["seed=5"], r"seed: a probe varies it"),
        (["ckpt_path=somewhere"], "leave ckpt_path out"),
        (["head_from=somewhere"], "leave head_from out"),
        (["trainer.check_val_every_n_epoch=2"], "every epoch is validated"),
        (["trainer.devices=2"], "it runs on one device"),
    ],
)
def test_what_cant_be_probed_is_one_sentence(overrides, message):
    with pytest.raises(ValueError, match=message):
        regraft.probe([*PRETRAINED, "data.fraction=0.1", "grid.seed=0", "grid.weight_decay=0", *overrides])


def test_heads_that_all_diverged_are_said_in_one_sentence(options):
    with pytest.raises(ValueError, match="every head diverged"):
        regraft.probe([*options, "grid.seed=0", "grid.weight_decay=0", "grid.lr=[1e38]"])
