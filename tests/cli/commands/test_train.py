import functools
import json
import shutil
from collections import Counter

import pytest
import torch
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from pytorch_lightning import Trainer

import regraft
from helpers import planted
from helpers.command_line import run_main
from helpers.small import SMALL, assembled, without
from helpers.stopping import assert_same_end, stopped_run
from regraft.config import compose
from regraft.core.errors import ConfigErrors
from regraft.core.types import Backbone
from regraft.data.datamodule import DataModule
from regraft.runs.checkpoint_io import write
from regraft.runs.folder import Run


def state_of(path):
    return torch.load(path, weights_only=True, map_location="cpu")


def test_a_run_holds_what_it_was_and_what_it_found(small_run):
    assert small_run.config["data"]["fraction"] == 0.2
    assert small_run.overrides[0] == "data=digits"
    assert {"test/acc", "test/loss", "test/top5", "test/precision", "test/recall", "test/f1"} <= set(small_run.metrics)
    assert small_run.results["num_trained_parameters"] == small_run.results["num_parameters"]
    columns = (small_run.path / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/loss", "train/acc", "val/loss", "val/acc", "lr/head"} <= set(columns)


def test_it_learns(small_run):
    rows = small_run.logged_rows(before_step=10**9)
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("kind", ["best", "last"])
def test_checkpoints_load_without_code_and_tell_what_they_are(small_run, kind):
    checkpoint = state_of(small_run.checkpoint(kind))
    record = checkpoint["hyper_parameters"]
    assert record["class_names"] == [str(digit) for digit in range(10)]
    assert record["architecture"]["weights"] is None
    assert record["input_spec"]["image_size"] == 8
    assert len(record["input_spec"]["mean"]) == record["input_spec"]["num_channels"]
    assert record["config"] == small_run.config


def test_the_same_seed_gives_the_same_run(small_run):
    again = regraft.train(SMALL)
    first, second = (state_of(run.last_ckpt)["state_dict"] for run in (small_run, again))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert again.metrics == small_run.metrics
    other = regraft.train([*SMALL, "seed=1"])
    assert other.metrics != small_run.metrics


def test_another_seed_keeps_the_test_split():
    indices = []
    for seed in (0, 7):
        config = compose.plain(compose.compose_once("train", [*SMALL, "fitting=steps", f"seed={seed}"], None))
        data = assembled(config).data
        indices.append(
            [
                torch.cat([batch["indices"] for batch in loader()])
                for loader in (data.test_dataloader, data.val_dataloader, data.train_dataloader)
            ]
        )
    assert torch.equal(indices[0][0], indices[1][0])
    assert torch.equal(indices[0][1], indices[1][1])
    assert not torch.equal(indices[0][2].sort().values, indices[1][2].sort().values)


@pytest.mark.parametrize(
    ("freezing", "scheduler"),
    [
        # tests/training/test_exact_resume.py has these with other options.
        pytest.param("none", "onecycle", marks=pytest.mark.slow),
        pytest.param("none", "plateau", marks=pytest.mark.slow),
        pytest.param("lp_ft", "cosine", marks=pytest.mark.slow),
        pytest.param("lp_ft", "onecycle", marks=pytest.mark.slow),
        ("lp_ft", "step"),
    ],
)
def test_a_resumed_run_ends_as_a_straight_one(monkeypatch, freezing, scheduler):
    overrides = [
        *without("freezing"),
        f"freezing={freezing}",
        "head=linear",
        f"scheduler={scheduler}",
        *{"step": ["scheduler.step_epochs=1"], "plateau": ["scheduler.patience=0"]}.get(scheduler, []),
        "optimizer=sgd",
        "head.dropout=0.3",
        "augment=basic",
        "augment.mixup_alpha=0.3",
        "callbacks.checkpoint.max_share=1",
    ]
    straight = regraft.train(overrides)

    stopped = stopped_run(overrides, monkeypatch, ("on_train_batch_end",), lambda trainer: trainer.current_epoch == 1)
    resumed = regraft.train([f"ckpt_path={stopped.path}"])

    assert resumed == stopped
    assert_same_end(resumed, straight)


def test_a_run_of_one_epoch_goes_on_to_two(short_run):
    straight = regraft.train([*SMALL, "scheduler=constant"])
    resumed = regraft.train([f"ckpt_path={short_run.path}", "trainer.max_epochs=2"])
    ends = [state_of(run.last_ckpt)["state_dict"] for run in (straight, resumed)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert resumed.metrics == straight.metrics


def test_without_a_validation_split_the_last_checkpoint_is_tested():
    run = regraft.train([*SMALL, "data.val_fraction=0"])
    assert "test/acc" in run.metrics
    assert run.last_ckpt.is_file()
    assert not run.best_ckpt.exists()


@pytest.mark.parametrize("choice", ["callbacks=early_stopping", "scheduler=plateau"])
def test_watching_validation_that_there_is_not_is_refused(choice):
    with pytest.raises(ValueError, match="monitor: got 'val/loss'; there is no validation split"):
        regraft.train([*SMALL, "data.val_fraction=0", choice])


def test_a_folder_that_holds_a_run_is_not_written_over(small_run):
    with pytest.raises(ValueError, match="already holds a run"):
        regraft.train([*SMALL, f"hydra.run.dir='{small_run.path}'", "hydra.output_subdir=null"])


def test_frozen_random_stages_are_warned_of(caplog):
    regraft.train([*without("freezing"), "freezing=linear_probe", "trainer.fast_dev_run=true"])
    assert "These stages have random weights and never train: conv1, conv2, conv3." in caplog.text


def test_fast_dev_run_tries_everything_and_keeps_no_checkpoint():
    run = regraft.train([*SMALL, "trainer.fast_dev_run=true"])
    assert "test/acc" in run.metrics
    assert not run.last_ckpt.exists()


@pytest.mark.parametrize(
    "overrides",
    [
        [
            *("loss=focal", "loss.class_weights=balanced", "loss.label_smoothing=0.1"),
            *("optimizer=adagrad", "scheduler=exponential", "penalty.l1=1e-5", "penalty.l2=1e-4"),
        ],
        [
            "loss=mse",
            "augment.cutmix_alpha=1.0",
            "optimizer=rmsprop",
            "scheduler=linear_warmup",
            "data.sampler=balanced",
        ],
        [
            *("optimizer=adam", "trainer.gradient_clip_val=1.0", "trainer.accumulate_grad_batches=2"),
            *(
                "callbacks=early_stopping",
                "augment=randaugment",
                "augment.erasing_probability=0.2",
                "augment.mixup_alpha=1",
            ),
        ],
        ["trainer.precision=bf16-mixed", "head=mlp"],
        ["head=cosine", "augment=crop_flip", "freezing=layerwise"],
        ["head=mapping", "freezing=gradual", "augment=trivialaugment"],
    ],
    ids=" ".join,
)
def test_choices_run_together(overrides):
    run = regraft.train([*without("trainer.max_epochs"), "trainer.max_epochs=1", *overrides])
    assert 0 <= run.metrics["test/acc"] <= 1
    assert json.loads((run.path / "results.json").read_text())["num_epochs"] == 1


@pytest.mark.parametrize("which", ["path", "best_ckpt", "tensors"])
def test_the_backbone_of_a_run_starts_another(small_run, which):
    grafted = ["model=checkpoint", f"model.path={getattr(small_run, which)}", "freezing=linear_probe"]
    run = regraft.train([*without("model", "freezing"), *grafted])
    source, target = (state_of(path)["state_dict"] for path in (small_run.best_ckpt, run.last_ckpt))
    backbone = [name for name in source if name.startswith("backbone.")]
    assert backbone
    assert all(torch.equal(source[name], target[name]) for name in backbone)
    assert not torch.equal(source["head.classifier.weight"], target["head.classifier.weight"])
    # The run stands alone: its source may go.
    assert state_of(run.last_ckpt)["hyper_parameters"]["architecture"]["_target_"].endswith("simple_cnn")


@pytest.fixture(scope="module")
def first_epoch(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first_epoch")
    options = ["scheduler=constant", "trainer.max_epochs=1", f"output_dir={folder}"]
    return regraft.train([*without("trainer.max_epochs"), *options])


@pytest.fixture
def short_run(first_epoch, tmp_path):
    """A run of one of two epochs, its learning rate constant."""
    copied = shutil.copytree(first_epoch.path, tmp_path / "outputs" / "digits-simple_cnn" / first_epoch.path.name)
    return Run(copied)


def test_a_resumed_run_refuses_what_it_would_ignore(short_run):
    with pytest.raises(ValueError, match=r"optimizer\.lr=5\.0 \(the run has 0\.001\)"):
        regraft.train([f"ckpt_path={short_run.path}", "trainer.max_epochs=2", "optimizer.lr=5.0"])


def test_a_resumed_run_keeps_its_data_wherever_it_is_resumed_from(tmp_path, monkeypatch):
    from PIL import Image

    for place in ("p1", "p2"):
        for index, name in enumerate(("cat", "dog")):
            folder = tmp_path / place / "photos" / name
            folder.mkdir(parents=True)
            for shade in range(12):
                gray = 10 * shade + index + (100 if place == "p2" else 0)
                Image.new("RGB", (20, 20), (gray, 0, 0)).save(folder / f"{shade}.png")
    monkeypatch.chdir(tmp_path / "p1")
    photos = ["data=folder", "data.root=photos", "data.num_workers=0", "data.fraction=1.0"]
    run = regraft.train([*without("data", "trainer.max_epochs"), *photos, "trainer.max_epochs=1"])
    monkeypatch.chdir(tmp_path / "p2")
    resumed = regraft.train([f"ckpt_path={run.path}", "trainer.max_epochs=2"])
    assert resumed.config["data"]["root"] == str(tmp_path / "p1" / "photos")
    with pytest.raises(ValueError, match="these aren't the samples and labels"):
        regraft.train([f"ckpt_path={run.path}", "trainer.max_epochs=3", "data=folder", "data.root=photos"])


def test_a_moved_run_remembers_its_best_epoch(short_run):
    moved = short_run.path.rename(short_run.path.with_name("moved"))
    best = [row["val/acc"] for row in Run(moved).logged_rows(before_step=10**9) if "val/acc" in row]
    # A step that ruins the network: no later epoch can be the best one.
    checkpoint = state_of(moved / "checkpoints" / "last.ckpt")
    for group in checkpoint["optimizer_states"][0]["param_groups"]:
        group["lr"] = 1e3
    for schedule in checkpoint["lr_schedulers"]:
        schedule["base_lrs"] = [1e3 for _ in schedule["base_lrs"]]
    write(moved / "checkpoints" / "last.ckpt", checkpoint)
    resumed = regraft.train([f"ckpt_path={moved}", "trainer.max_epochs=2"])
    assert state_of(resumed.best_ckpt)["epoch"] == 0
    assert regraft.evaluate([f"ckpt_path={moved}", "split=val"])["val/acc"] == pytest.approx(best[0])


def test_a_grafted_run_goes_on_without_its_source(short_run, tmp_path):
    source = shutil.copytree(short_run.path, tmp_path / "source")
    kept = without("model", "trainer.max_epochs")
    run = regraft.train([*kept, "model=checkpoint", f"model.path={source}", "trainer.max_epochs=1"])
    shutil.rmtree(source)
    assert regraft.train([f"ckpt_path={run.path}", "trainer.max_epochs=2"]).results["num_epochs"] == 2


def test_another_checkpoint_of_a_resumed_run_starts_a_folder_of_its_own(short_run):
    resumed = regraft.train([f"ckpt_path={short_run.path}", "trainer.max_epochs=2"])
    branched = regraft.train([f"ckpt_path={resumed.best_ckpt}", "trainer.max_epochs=3"])
    assert branched.path != resumed.path
    assert branched.results["num_epochs"] == 3


def test_without_any_split_set_aside_the_training_metrics_are_the_results():
    run = regraft.train([*SMALL, "data.val_fraction=0", "data.test_fraction=0"])
    assert 0 <= run.metrics["train/acc"] <= 1
    with pytest.raises(ValueError, match="split: got 'test'; the data has no such split"):
        regraft.evaluate([f"ckpt_path={run.path}"])


def test_what_never_came_to_train_is_not_counted(caplog):
    early = ["callbacks=early_stopping", "callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=9"]
    kept = without("freezing", "trainer.max_epochs")
    run = regraft.train(
        [*kept, "freezing=lp_ft", "freezing.probe_epochs=null", "head=linear", "trainer.max_epochs=20", *early]
    )
    assert run.results["num_epochs"] < 10
    assert run.results["num_trained_parameters"] == 1290
    assert "before these stages were to train: conv1, conv2, conv3" in caplog.text


@pytest.mark.parametrize("num_workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_a_resumed_run_goes_on_with_the_right_epochs_images(num_workers, tmp_path):
    from PIL import Image

    for index, name in enumerate(("cat", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for shade in range(20):
            Image.new("RGB", (24, 24), (10 * shade + index, 5 * shade, 0)).save(
                tmp_path / "photos" / name / f"{shade}.png"
            )
    photos = ["data=folder", f"data.root={tmp_path / 'photos'}", f"data.num_workers={num_workers}", "data.batch_size=8"]
    kept = [*without("data", "trainer.max_epochs"), *photos, "scheduler=constant", "augment=basic"]
    straight = regraft.train([*kept, "trainer.max_epochs=3"])
    short = regraft.train([*kept, "trainer.max_epochs=1"])
    resumed = regraft.train([f"ckpt_path={short.path}", "trainer.max_epochs=3"])
    ends = [state_of(run.last_ckpt)["state_dict"] for run in (straight, resumed)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_refused_resume_leaves_the_run_as_it_was(short_run):
    before = (short_run.path / "config.yaml").read_text()
    longer = "trainer.max_epochs=2"
    for refused in (["trainer.max_epochs=abc"], ["~optimizer"], [longer, "trainer.precision=abc"]):
        with pytest.raises(ValueError, match=r"max_epochs|optimizer|precision|Precision"):
            regraft.train([f"ckpt_path={short_run.path}", *refused])
        assert short_run.state["status"] == "finished"
        assert (short_run.path / "config.yaml").read_text() == before


def test_a_callback_can_be_left_out_of_a_resumed_run(short_run):
    resumed = regraft.train([f"ckpt_path={short_run.path}", "trainer.max_epochs=2", "~callbacks.best"])
    assert "best" not in resumed.config["callbacks"]


def test_another_runs_folder_is_not_written_over_by_a_resumed_one(short_run, small_run, tmp_path):
    lone = shutil.copy(short_run.last_ckpt, tmp_path / "lone.ckpt")
    with pytest.raises(ValueError, match="already holds a run"):
        regraft.train([f"ckpt_path={lone}", "trainer.max_epochs=2", f"hydra.run.dir='{small_run.path}'"])


def test_a_call_from_python_is_checked_as_a_command_is():
    with pytest.raises(ConfigErrors) as refused:
        regraft.train([*SMALL, "+optimizr=3", "+trainer.foo=1"])
    assert [error.key for error in refused.value.exceptions] == ["optimizr", "trainer.foo"]


@pytest.mark.parametrize("command", ["train", "resume"])
def test_a_run_is_composed_once_and_made_of_one_of_each(command, monkeypatch, request, capsys):
    made = Counter()
    arguments = SMALL
    if command == "resume":
        run = request.getfixturevalue("short_run")
        arguments = [f"run={run.path}", "trainer.max_epochs=2"]
    for owner, method in (
        (ConfigLoaderImpl, "load_configuration"),
        (Backbone, "__init__"),
        (DataModule, "__init__"),
        (Trainer, "__init__"),
    ):
        monkeypatch.setattr(owner, method, counted(made, owner, getattr(owner, method)))
    monkeypatch.setattr(torch.optim.Optimizer, "__init__", optimizers_counted(made))
    assert run_main([command, *arguments], capsys)[0] == 0
    assert made.pop("trial") == 1
    assert made == {"ConfigLoaderImpl": 1, "Backbone": 1, "DataModule": 1, "Trainer": 1, "Optimizer": 1}


def counted(made, owner, method):
    @functools.wraps(method)
    def counting(*arguments, **options):
        made[owner.__name__] += 1
        return method(*arguments, **options)

    return counting


def optimizers_counted(made):
    """Returns torch's constructor, which counts the run's own optimizers, and those that only try its options.

    They are tried on small parameters before data is read or weights are downloaded. The run's own has to be made of
    the final parameters, which Lightning moves and converts when training starts: see tests/training/test_module.py.
    """
    original = torch.optim.Optimizer.__init__

    def counting(self, params, defaults):
        sizes = {parameter.numel() for group in params for parameter in group["params"]}
        made["trial" if sizes == {1024} else "Optimizer"] += 1
        original(self, params, defaults)

    return counting


TRAINING = [*without("data"), "data=folder", "data.root=photos", "data.num_workers=0", "trainer.max_epochs=1"]
SKIPPED = {"ant/cut.png": "truncated", "bee/empty.jpg": "zero bytes"}


@pytest.fixture
def photos(tmp_path):
    """A folder of two classes, with a damaged image in each."""
    for name, start in (("ant", 0), ("bee", 100)):
        for number in range(start, start + 20):
            planted.write(tmp_path / "photos" / name / f"{number}.png", planted.encoded(planted.photo(number), "PNG"))
    planted.write(tmp_path / "photos" / "ant" / "cut.png", planted.encoded(planted.photo(200), "PNG")[:200])
    planted.write(tmp_path / "photos" / "bee" / "empty.jpg", b"")
    return tmp_path / "photos"


def test_damaged_images_are_told_before_the_training(photos, tmp_path):
    with pytest.raises(ValueError, match=r"2 of 42 images .* can't be decoded: ant/cut\.png.*; bee/empty\.jpg"):
        regraft.train(TRAINING)
    assert not list(tmp_path.glob("outputs/*/*/checkpoints"))


def test_damaged_images_are_left_out_of_the_run_and_of_all_that_follows_from_it(photos, capsys):
    run = regraft.train([*TRAINING, "data.on_error=skip"])

    skipped = json.loads((run.path / "skipped.json").read_text())
    assert skipped.keys() == SKIPPED.keys()
    assert all(skipped[path].startswith(reason) for path, reason in SKIPPED.items())
    assert run.results["num_skipped"] == 2
    assert regraft.evaluate([f"run={run.path}"])["test/acc"] == run.metrics["test/acc"]

    for path in SKIPPED:
        (photos / path).unlink()
    regraft.resume([f"run={run.path}", "trainer.max_epochs=2"])  # the same fingerprint, or it would be refused
    with pytest.raises(ValueError, match=r"data\.on_error='raise' \(the run has 'skip'\)"):
        regraft.resume([f"run={run.path}", "trainer.max_epochs=3", "data.on_error=raise"])


def test_unlabelled_test_images_are_predicted_when_a_run_ends(tmp_path, capsys):
    for index, folder in enumerate(("train/ant", "train/bee", "test")):
        for shade in range(6):
            content = planted.encoded(planted.photo(10 * index + shade), "PNG")
            planted.write(tmp_path / "photos" / folder / f"{shade}.png", content)
    small = ["model=simple_cnn", "model.image_size=16", "data.num_workers=0", "report=off", "logger=csv"]
    code, out, _ = run_main(["train", "data=folder", "data.root=photos", "hydra.run.dir=run", *small], capsys)

    assert code == 0
    assert "Wrote 6 rows: " in out
    rows = (tmp_path / "run" / "predictions.csv").read_text().splitlines()
    assert rows[0] == "path,class,probability,class_2,probability_2,error"
    assert [row.split(",")[0] for row in rows[1:]] == [str(tmp_path / "photos" / "test" / f"{n}.png") for n in range(6)]
