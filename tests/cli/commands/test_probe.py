"""A probe's heads are those of single runs, and its best one is a run."""

import csv
from typing import Any

import pytest

import regraft
from regraft.runs.folder import Run

OPTIONS = [
    *("data=digits", "data.fraction=0.1", "data.test_fraction=0.1", "data.subset_seed=0"),
    *(
        "model=efficientnet_lite0",
        "model.image_size=32",
        "trainer=cpu",
        "trainer.max_epochs=3",
        "trainer.enable_progress_bar=false",
        "logger=csv",
    ),
]
GRID = ["grid.lr=[1e-3,1e-2]", "grid.weight_decay=[0,0.1]", "grid.seed=[0,1]"]


def rows_of(run: Run) -> list[dict[str, str]]:
    with (run.path / "grid.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def best_epoch(run: Run) -> dict[str, Any]:
    return max((row for row in run.history(10**9) if "val/acc" in row), key=lambda row: row["val/acc"])


def test_each_head_is_that_of_a_run_of_its_own():
    probe = regraft.probe([*OPTIONS, *GRID])
    rows = rows_of(probe)
    assert len(rows) == 8
    for row in (rows[place] for place in (0, 3, 5, 6)):  # each value beside each one of the other axes
        point = [f"optimizer.lr={row['lr']}", f"optimizer.weight_decay={row['weight_decay']}", f"seed={row['seed']}"]
        best = best_epoch(regraft.train([*OPTIONS, *point]))
        assert float(row["val/acc"]) == pytest.approx(best["val/acc"], abs=1e-6)
        assert float(row["val/loss"]) == pytest.approx(best["val/loss"], abs=1e-4)
        assert int(row["best_epoch"]) == best["epoch"]


def test_the_best_head_is_a_run_that_others_start_from():
    run = regraft.probe([*OPTIONS, *GRID, "data.fraction=1.0", "grid.shots=[null,5]"])
    rows = rows_of(run)
    assert len(rows) == 16
    top = max(rows, key=lambda row: (float(row["val/acc"]), -float(row["val/loss"])))
    config = run.config
    assert (config["optimizer"]["lr"], config["seed"]) == (float(top["lr"]), int(top["seed"]))
    assert "grid" not in config
    assert best_epoch(run)["val/acc"] == pytest.approx(float(top["val/acc"]), abs=1e-6)
    assert regraft.evaluate([f"ckpt_path={run.path}"]).items() >= run.metrics.items()
    kept = [option for option in OPTIONS if not option.startswith("model")]
    grafted = [
        *kept,
        "data.fraction=1.0",
        f"seed={top['seed']}",
        "model=checkpoint",
        f"model.path={run.path}",
        f"head_from={run.path}",
        "optimizer.lr=1e-9",
    ]
    assert regraft.train([*grafted, "trainer.max_epochs=1"]).metrics["test/acc"] == run.metrics["test/acc"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["head=mlp"], "its heads are linear; use head=linear"),
        (["freezing=none"], "use freezing=linear_probe"),
        (["freezing=lp_ft"], "use freezing=linear_probe"),
        (["data.val_fraction=0"], "a probe picks by validation"),
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
        (["grid=null"], "allowed: the axes"),
        (["optimizer.lr=5"], r"optimizer\.lr: a probe varies it"),
        (["seed=5"], r"seed: a probe varies it"),
        (["ckpt_path=somewhere"], "leave ckpt_path out"),
        (["head_from=somewhere"], "leave head_from out"),
        (["trainer.check_val_every_n_epoch=2"], "every epoch is validated"),
        (["trainer.devices=2"], "it runs on one device"),
        (["grid.lr=[1e38]"], "every head diverged"),
    ],
)
def test_what_cant_be_probed_is_one_sentence(overrides, message):
    with pytest.raises(ValueError, match=message):
        regraft.probe([*OPTIONS, "data.fraction=0.1", "grid.seed=0", "grid.weight_decay=0", *overrides])


def test_the_datas_shots_are_the_grids_unless_it_has_its_own():
    run = regraft.probe([*OPTIONS, "data.fraction=1.0", "data.shots=4", "grid.seed=0", "grid.weight_decay=0"])
    assert run.config["data"]["shots"] == 4
