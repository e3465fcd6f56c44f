"""Probes and rankings of labels and numbers: heads in closed form, trained ones, backbones."""

import csv

import pytest

import regraft
from regraft.cli.commands import rank
from regraft.tasks import TASKS

KEPT = [
    *("data=digits", "data._target_=helpers.coloured.Coloured", "+data.weights=true", "trust=[helpers]"),
    *("trainer=cpu", "logger=csv"),
    *("trainer.enable_progress_bar=false", "trainer.max_epochs=3"),
]
GRID = ["grid.lr=[1e-2,1e-1]", "grid.weight_decay=[0,0.1]", "grid.seed=[0]"]


@pytest.fixture(scope="module", params=["multilabel", "regression"])
def options(request, tmp_path_factory, small_run) -> list[str]:
    """The overrides of a probe of images of one colour each, on the backbone of a small run."""
    folder = tmp_path_factory.mktemp("task")
    model = ["model=checkpoint", f"model.path={small_run.path}"]
    return [*KEPT, *model, f"+data.kind={request.param}", f"task={request.param}", f"output_dir={folder}"]


def test_the_heads_of_a_probe_are_those_of_runs(options):
    probed = regraft.probe([*options, *GRID])
    task = TASKS[probed.config["task"]["name"]]
    heads = probed.results["heads"]
    found = [(row["name"], row["estimate"]) for row in heads["rows"]]
    assert found[:2] == [("mix", "leave-one-out"), ("ridge", "leave-one-out")]
    assert {row["estimate"] for row in heads["rows"]} == {"leave-one-out", "hold-out"}
    chosen = next(row for row in heads["rows"] if row["is_chosen"])
    if chosen["estimate"] == "leave-one-out":
        run_figure = probed.results["cross_validation"][f"val/{task.headline}"]
        assert chosen[task.headline] == pytest.approx(run_figure, abs=1e-6)
    with (probed.path / "grid.csv").open(newline="") as file:
        row = list(csv.DictReader(file))[1]
    point = [f"optimizer.lr={row['lr']}", f"optimizer.weight_decay={row['weight_decay']}", f"seed={row['seed']}"]
    alone = regraft.train([*options, *point, "fitting=steps", "data.batch_size=64", "callbacks.best.tolerance=0"])
    rows = [each for each in alone.logged_rows(10**9) if f"val/{task.headline}" in each]
    best = max(rows, key=lambda each: (each[f"val/{task.headline}"], -each["val/loss"]))
    assert float(row[f"val/{task.headline}"]) == pytest.approx(best[f"val/{task.headline}"], abs=1e-5)
    assert float(row["val/loss"]) == pytest.approx(best["val/loss"], abs=1e-5)
    assert f"test/{task.headline}" in (probed.path / "report.html").read_text()


def test_backbones_are_ranked_by_the_loss_of_the_task(options, tmp_path, small_run, capsys):
    kept = [each for each in options if not each.startswith(("model", "trainer.max", "output_dir"))]
    output = tmp_path / "ranked.csv"
    rank.run([*kept, f"models=[{small_run.path}]", "sizes=[8,16]", f"output={output}"])
    task = TASKS[next(each for each in options if each.startswith("task=")).partition("=")[2]]
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["loo_loss"]) for row in rows]
    assert losses == sorted(losses)
    assert all(0 < float(row[f"loo_{task.headline}"]) <= 1 for row in rows)
    assert all(float(row[f"neighbours_{task.headline}"]) <= 1 for row in rows)
    assert task.loss_title in capsys.readouterr().out


def test_a_search_finds_a_run_of_the_task(options, small_run):
    kept = [each for each in options if not each.startswith(("model", "trainer.max"))]
    run = regraft.auto([*kept, f"models=[{small_run.path}]", "sizes=[16]", "trials=1"])
    task = TASKS[run.config["task"]["name"]]
    assert run.metrics[f"test/{task.headline}"] > 0.8
    page = (run.path.parent / "report.html").read_text()
    assert f'<th scope="col">{task.headline}</th><th scope="col">{task.loss_title}</th>' in page
    assert "accuracy" not in page
