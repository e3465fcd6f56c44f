"""What `regraft check` says of bad input. Each command holds many mistakes, and all of them are to be said."""

import sys
from collections.abc import Mapping

import pytest
from PIL import Image

import regraft
from helpers.command_line import run_main
from helpers.small import SMALL
from regraft.cli.commands.check import run as check
from regraft.core.errors import ConfigErrors
from regraft.models.from_config import build_backbone

BASE = {"model": "simple_cnn", "model.image_size": "16", "trainer": "cpu"}

# Each command: an override, and what is said of it (nothing for one that is there for the others).
COMMANDS: dict[str, dict[str, str]] = {
    "names": {
        "modle=resnet18": "modle: unknown key 'modle'. Did you mean 'model'?",
        "optimizr=sgd": "optimizr: unknown key 'optimizr'. Did you mean 'optimizer'?",
        "loss=focl": "loss: unknown choice 'focl'. Did you mean 'focal'?",
        "trainer.max_epoch=3": "trainer.max_epoch: unknown key 'max_epoch'. Did you mean 'max_epochs'?",
        "callbacks.bst.monitor=x": "callbacks.bst: unknown key 'bst'. Did you mean 'best'?",
        "+lrr=3": "lrr: unknown key 'lrr'. Did you mean 'optimizer.lr",
        "+epochs=3": "epochs: unknown key 'epochs'. Did you mean 'trainer.max_epochs'?",
        "+foo.bar=1": "foo: unknown key 'foo'.",
        "+optimizer.lrr=3": "optimizer.lrr: unknown key 'lrr'. Did you mean 'lr'?",
        "+trainer.foo=1": "trainer.foo: unknown key 'foo'. Allowed: accelerator,",
        "+data.shot=1": "data.shot: unknown key 'shot'. Did you mean 'shots'?",
        "+trainer.callbacks=[]": "trainer.callbacks: a run sets it itself: callbacks are chosen with callbacks=",
        "+head.num_classes=3": "head.num_classes: got 3; a run sets it itself.",
        "callbacks.best._target_=regraft.runs.folder.Runs": "callbacks.best._target_: got 'regraft.runs.folder.Runs';",
        "logger.csv._target_=regraft.nowhere.Logger": "logger.csv._target_: got 'regraft.nowhere.Logger'; there is",
        "+penalty.l3=1": "penalty.l3: unknown key 'l3'. Allowed: l1, l2.",
        "+callbacks.foo.bar=1": "callbacks.foo: got {'bar': 1}; it is a section with a `_target_`",
        "~penalty.l2": "penalty.l2: it is missing; leave ~penalty.l2 out.",
        "resume=5": "resume: got 5; it is a section with reset.",
        "optimizer.betas=[1": "optimizer.betas=[1: this can't be read as key=value.",
        "~augment": "augment: nothing is chosen, but a run needs one; allowed: basic,",
        "+hydra.foo=1": "hydra.foo: unknown key 'foo'.",
        "head=null": "head: nothing is chosen, but a run needs one; allowed: cosine, linear,",
        "optimizer.lr=1,2": "optimizer.lr: got '1,2'; these values are a job each. Add -m for a sweep, write",
        "optimizer.eps=${nowhere}": "optimizer.eps: it refers to 'nowhere', which the config doesn't have.",
        "+callbacks.swa={_target_: pytorch_lightning.callbacks.StochasticWeightAveraging, swa_lrs: 0.1}": (
            "callbacks.swa._target_: StochasticWeightAveraging can't be used here: its average is made after the last"
        ),
        "+callbacks.sum={_target_: pytorch_lightning.callbacks.GradientAccumulationScheduler, scheduling: {1: 4}}": (
            "callbacks.sum._target_: GradientAccumulationScheduler can't be used here: it changes how many steps"
        ),
        "callbacks.checkpoint._target_=regraft.train": (
            "callbacks.checkpoint._target_: got 'regraft.train'; it isn't a part of a run, but a function of Regraft's"
        ),
        "loss=5": "loss: unknown choice '5'.",
        "augment=[flip,crop_flip]": "augment: got '[flip,crop_flip]'; allowed: one of basic,",
        "features=": "features: unknown choice ''.",
        "optimizer.amsgrad": "optimizer.amsgrad: it has no value. Write KEY=VALUE.",
        "data.shots=1,": "data.shots: got '1,'; nothing follows its last comma.",
        "~head_from": "head_from: there is no such key here, or it is null already. Leave it out.",
        "hydra.launcher.n_jobs=x": "hydra.launcher.n_jobs: there is no such key here",
        "hydra.sweep.subdir=null": "hydra.sweep.subdir: got 'null'; a value of this kind can't stand there.",
        "+scheduler=step": "scheduler: it is chosen already, and +scheduler=... adds a second one",
    },
    "ranges": {
        "seed=-1": "seed: got -1; allowed: a whole number from 0 to 4294967295.",
        "optimizer.lr=-1": "optimizer.lr: got -1; allowed: a number above 0",
        "optimizer.weight_decay=-1": "optimizer.weight_decay: got -1; allowed: a number of at least 0",
        "optimizer.betas=[0.9,1.5]": "optimizer.betas: got [0.9, 1.5]; Invalid beta parameter at index 1",
        "penalty.l1=-1": "penalty.l1: got -1; allowed: a number of at least 0",
        "data.fraction=2": "data.fraction: got 2; allowed: above 0, at most 1.",
        "data.shots=0": "data.shots: got 0; allowed: 1, 2, 3, ..., null.",
        "data.batch_size=0": "data.batch_size: got 0; allowed: 1, 2, 3",
        "data.val_fraction=1": "data.val_fraction: got 1; allowed: 0 to below 1.",
        "data.num_workers=-1": "data.num_workers: got -1; allowed: 0 to 256",
        "data.sampler=foo": "data.sampler: got 'foo'; allowed: shuffle, balanced.",
        "head.dropout=1.5": "head.dropout: got 1.5; allowed: at least 0, below 1.",
        "head.init=foo": "head.init: got 'foo'; allowed: default,",
        "loss.label_smoothing=1": "loss.label_smoothing: got 1; allowed: at least 0, below 1.",
        "loss.class_weights=foo": "loss.class_weights: got 'foo'; allowed: null, balanced, a list",
        "scheduler.min_factor=2": "scheduler.min_factor: got 2; allowed: 0 to 1.",
        "scheduler.warmup_epochs=20": "scheduler.warmup_epochs: got 20; the run has 10 epochs.",
        "trainer.max_epochs=-5": "trainer.max_epochs: got -5; allowed: 1 or more, or -1 for no limit.",
        "trainer.limit_train_batches=1.5": "trainer.limit_train_batches: got 1.5; You have passed invalid value",
        "trainer.accumulate_grad_batches=0": "trainer.accumulate_grad_batches: got 0; allowed: 1 or more.",
        "trainer.devices=4096": "trainer.devices: got 4096; the run is on the CPU, which has",
        "features.cache=foo": "features.cache: got 'foo'; allowed: auto, on, off.",
        "features.views=-1": "features.views: got -1; allowed: 0 (none) or more.",
        "features.max_gb=0": "features.max_gb: got 0; allowed: a number above 0.",
        "callbacks.nan=foo": "callbacks.nan: got 'foo'; allowed: stop, skip.",
        "callbacks.checkpoint.max_share=0": "callbacks.checkpoint.max_share: got 0; allowed: above 0, at most 1",
        "callbacks.checkpoint.every_n_steps=0": "callbacks.checkpoint.every_n_steps: got 0; allowed: a number above 0",
        "augment.crop=foo": "augment.crop: got 'foo'; allowed: resized, padded, null.",
        "augment.scale=[1,0.5]": "augment.scale: got (1, 0.5); allowed: 0 < least <= greatest <= 1.",
        "model.num_channels=2": "model.num_channels: got 2; allowed: 1 (grayscale), 3 (RGB).",
        "freezing=last_stages": "",
        "freezing.num_stages=9": "freezing.num_stages: got 9; the backbone has 3: conv1, conv2, conv3.",
    },
    "types": {
        "seed=abc": "seed: got 'abc'; allowed: a whole number",
        "output_dir=5": "output_dir: got 5; allowed: a path.",
        "head_from=5": "head_from: got 5; allowed: a path, null.",
        "penalty=5": "penalty: got 5; it is a section with l1, l2.",
        "optimizer.lr=abc": "optimizer.lr: got 'abc'; allowed: a number above 0",
        "optimizer.betas=[0.9]": "optimizer.betas: got [0.9]; allowed: a list of 2 numbers.",
        "optimizer.decay_norm_and_bias=maybe": "optimizer.decay_norm_and_bias: got 'maybe'; allowed: true or false.",
        "data.batch_size=1.5": "data.batch_size: got 1.5; allowed: 1, 2, 3",
        "data.fraction=abc": "data.fraction: got 'abc'; allowed: a number.",
        "data.split_seed=abc": "data.split_seed: got 'abc'; allowed: a whole number.",
        "head.dropout=abc": "head.dropout: got 'abc'; allowed: a number.",
        "augment.padding=1.5": "augment.padding: got 1.5; allowed: a whole number.",
        "trainer.max_epochs=abc": "trainer.max_epochs: got 'abc'; allowed: 1 or more",
        "trainer.precision=abc": "trainer.precision: got 'abc'; allowed: 64, 32, 16,",
        "trainer.enable_progress_bar=5": "trainer.enable_progress_bar: got 5; allowed: true or false, null.",
        "model.image_size=abc": "model.image_size: got 'abc'; allowed: a whole number, null.",
        "callbacks.best=5": "callbacks.best: got 5; it is a section with a `_target_`",
        "freezing=up_to": "",
        "freezing.until=5": "freezing.until: got 5; allowed: text.",
    },
    "what can't be made": {
        "head_from=/nowhere": "head_from: /nowhere doesn't exist. Give a run's folder or a checkpoint's file.",
        "model.weights=/nowhere.pth": "model.weights: no file /nowhere.pth.",
        "trainer.accelerator=gpuu": "trainer.accelerator: got 'gpuu'; You selected an invalid accelerator name",
        "trainer.num_nodes=0": "trainer.num_nodes: got 0; allowed: 1 or more.",
        "optimizer=sgd": "",
        "optimizer.momentum=-1": "optimizer.momentum: got -1; Invalid momentum value: -1",
        "scheduler=plateau": "",
        "scheduler.monitor=val/accc": "scheduler.monitor: unknown metric 'val/accc'. Did you mean 'val/acc'?",
        "scheduler.factor=2": "scheduler.factor: got 2; allowed: above 0, below 1.",
        "callbacks=early_stopping": "",
        "callbacks.early_stopping.monitor=loss": "callbacks.early_stopping.monitor: unknown metric 'loss'.",
        "callbacks.early_stopping.patience=-1": "callbacks.early_stopping.patience: got -1; allowed: at least 0.",
        "callbacks.best.monitor=val/loss": "callbacks.best.mode: got 'max'; allowed: min, for val/loss.",
        "head=mlp": "",
        "head.hidden_sizes=5": "head.hidden_sizes: got 5; allowed: a list of whole numbers.",
        "loss=focal": "",
        "loss.gamma=-1": "loss.gamma: got -1; allowed: at least 0",
        "freezing=lp_ft": "",
        "freezing.probe_epochs=20": "freezing.probe_epochs: got 20; the run ends after trainer.max_epochs=10",
        "output_dir=/proc/nowhere": "output_dir: nothing can be written to /proc/nowhere/",
    },
    "what is never validated": {
        "trainer.limit_val_batches=0": "",
        "scheduler=plateau": "scheduler.monitor: got 'val/loss'; trainer.limit_val_batches=0 leaves nothing",
        "trainer.check_val_every_n_epoch=50": "trainer.check_val_every_n_epoch: got 50; the run has 10 epochs",
    },
    "what memory can't hold": {
        "model.image_size=1000000": "model.image_size: got 1000000; one image takes 12,000 GB then, but there are",
        "head=mlp": "",
        "head.hidden_sizes=[100000000000]": "output_dir: a run's checkpoints take about",
    },
    "what has no value": {
        "data=folder": "data.root: it has no value yet; add data.root=... to the command.",
        "model=timm": "model.name: it has no value yet",
        "freezing=up_to": "freezing.until: it has no value yet",
        "optimizer.lr=0": "optimizer.lr: got 0; allowed: a number above 0",
    },
    "no table, by which the task would be found": {
        "data=table": "data.path: it has no value yet",
        "freezing=none": "",
    },
    "random augmentation and a store": {
        "augment=basic": "",
        "features.cache=on": "features.cache: got 'on', but the augmentation draws again in each epoch;",
        "trainer.precision=16-mixed": "trainer.precision: got '16-mixed'; it needs a GPU, and the run is on the CPU",
    },
    "L-BFGS": {
        "optimizer=lbfgs": "",
        "scheduler=constant": "",
        "freezing=none": "it trains the head alone; use freezing=linear_probe.",
        "augment=flip": "it needs the same images in each epoch; use augment=none.",
        "head.dropout=0.5": "it needs the same loss each time; use head.dropout=0.",
    },
    "a closed form": {
        "head=mix": "",
        "penalty.l2=1": "it chooses its own regularisation; leave penalty.l1 and penalty.l2 out.",
        "trainer.val_check_interval=2": "trainer.val_check_interval: got 2; allowed: at most 1, the batches",
    },
    "data": {
        "data.val_fraction=0": "",
        "scheduler=plateau": "scheduler.monitor: got 'val/loss'; there is no validation split.",
        "callbacks=early_stopping": "callbacks.early_stopping.monitor: got 'val/loss'; there is no validation",
        "trainer.val_check_interval=5000": "trainer.val_check_interval: got 5000; allowed: at most 1, the batches",
        "data.batch_size=5000": "data.batch_size: got 5000; there are 1438 training images;",
        "loss.class_weights=[1,2]": "loss.class_weights: got 2 numbers, but the data has 10 classes",
    },
    "no such machine": {
        "trainer.accelerator=tpu": "trainer.accelerator: got 'tpu'; ",
        "head.dropout=2": "head.dropout: got 2; allowed: at least 0, below 1.",
    },
    "memory": {
        "freezing=none": "",
        "data.batch_size=100000000": "data.batch_size: got 100000000; a step takes at least",
    },
    "a stage": {
        "freezing=up_to": "",
        "freezing.until=layer5": "freezing.until: unknown stage 'layer5'. Allowed: conv1, conv2, conv3.",
        "scheduler=onecycle": "",
        "optimizer=adagrad": "",
        "scheduler.cycle_momentum=true": "scheduler.cycle_momentum: got true, but Adagrad runs without momentum.",
    },
}  # fmt: skip


def command(overrides: Mapping[str, str] | list[str]) -> list[str]:
    """Returns a command of a small training with these overrides."""
    keys = {override.partition("=")[0] for override in overrides}
    return [*(f"{key}={value}" for key, value in BASE.items() if key not in keys), *overrides]


def errors_of(arguments: list[str]) -> tuple[str, ...]:
    with pytest.raises(ConfigErrors) as refused:
        check(arguments)
    return refused.value.messages


@pytest.mark.parametrize("overrides", COMMANDS.values(), ids=COMMANDS)
def test_each_error_is_reported_once_in_one_line(overrides):
    sentences = errors_of(command(overrides))
    expected = [words for words in overrides.values() if words]
    for words in expected:
        # The reasons against L-BFGS all begin alike.
        said = [line for line in sentences if line.startswith(words) or line.endswith(words)]
        assert len(said) == 1, f"{words}\n\n" + "\n".join(sentences)
        assert "\n" not in said[0]
        assert "Traceback" not in said[0]
    assert len(sentences) == len(expected), "\n".join(sentences)


def test_a_sound_command_shows_what_would_train_on_which_data(capsys):
    code, out, err = run_main(["check", *command([])], capsys)
    assert (code, err) == (0, "Checking config, model and data ...\n")
    assert out.startswith("Nothing is wrong.\nsimple_cnn at 16 px, 93,472 parameters; trained stages: head;")
    assert "images: 1,438 train, 359 test; steps an epoch: 1" in out


def test_it_says_for_which_options_a_head_is_trained_in_steps(capsys):
    code, out, err = run_main(["check", *command([]), "optimizer.lr=0.1", "data.val_fraction=0.2"], capsys)
    assert (code, err) == (0, "Checking config, model and data ...\n")
    assert out.startswith(
        "Nothing is wrong.\nThe head is trained in steps (fitting=steps), because of optimizer.lr=0.1.\n"
    )


@pytest.mark.parametrize("given", [[], ["data.refit=false"], ["data.val_fraction=0"]])
def test_a_fraction_that_holds_nothing_out_is_warned_of(given, caplog):
    check([*command([]), "data.val_fraction=0.2", *given])
    warned = [record.getMessage() for record in caplog.records if "holds nothing out" in record.getMessage()]
    assert len(warned) == (not given)


def test_a_key_that_others_refer_to_is_known(capsys):
    check(command(["+rate=0.1", "optimizer.lr=${rate}"]))
    assert "Nothing is wrong." in capsys.readouterr().out


def test_each_job_of_a_sweep_is_checked():
    said = errors_of([*command(["optimizer.lr=1e-3,-1", "freezing=none,nonee"]), "-m"])
    assert said == (
        "freezing: jobs 1, 3 (freezing=nonee): unknown choice 'nonee'. Did you mean 'none'? Allowed: gradual, "
        "last_stages, layerwise, linear_probe, lp_ft, none, up_to.",
        "optimizer.lr: jobs 2, 3 (optimizer.lr=-1): got -1; allowed: a number above 0, such as 1e-3.",
    )


def test_jobs_with_one_backbone_make_it_once(monkeypatch):
    made = []

    def counted(config):
        made.append(config["model"]["_target_"])
        return build_backbone(config)

    monkeypatch.setattr(sys.modules["regraft.training.preflight.check"], "build_backbone", counted)
    (said,) = errors_of([*command(["seed=0,-1", "model=simple_cnn,cifar_resnet"]), "-m"])
    assert len(made) == len(set(made)) == 2
    assert said.startswith("seed: jobs 2, 3 (seed=-1): ")


def experiment(tmp_path, text: str) -> list[str]:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "try.yaml").write_text(text)
    return ["experiment=try", "--config-dir", str(tmp_path / "mine")]


def test_an_experiment_without_a_package_line_is_reported(tmp_path):
    (said,) = errors_of([*command([]), *experiment(tmp_path, "optimizer:\n  lr: 0.1\n")])
    assert "experiment: try.yaml doesn't begin with `# @package _global_`" in said


def test_the_keys_of_an_experiment_are_checked_like_those_of_the_command(tmp_path):
    text = "# @package _global_\noptimizer:\n  lr: -3\n  lrr: 4\ntrainer:\n  max_epoch: 3\nfoo: 3\n"
    said = errors_of([*command([]), *experiment(tmp_path, text)])
    keys = {sentence.partition(":")[0] for sentence in said}
    assert keys == {"foo", "optimizer.lr", "optimizer.lrr", "trainer.max_epoch"}


def test_an_invalid_experiment_is_reported_with_the_other_errors(tmp_path):
    said = errors_of([*command(["optimizer.lr=-3"]), *experiment(tmp_path, "# @package _global_\na:\n b\n  c: [\n")])
    assert len(said) == 2
    assert "try.yaml" in said[0]
    assert said[1].startswith("optimizer.lr: got -3")


@pytest.fixture
def photos(tmp_path):
    for index, name in enumerate("abc"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for shade in range(10):
            Image.new("RGB", (16, 16), (20 * shade, index, 0)).save(tmp_path / "photos" / name / f"{shade}.png")
    return ["data=folder", "data.root=photos"]


def test_top5_of_three_classes_cant_be_watched(photos):
    plateau = ["scheduler=plateau", "scheduler.monitor=val/top5", "scheduler.mode=max"]
    (said,) = errors_of(command([*photos, *plateau]))
    assert said.startswith("scheduler.monitor: got 'val/top5'; it isn't measured with 3 classes;")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            "trainer.limit_train_batches=0.1",
            "trainer.limit_train_batches: got 0.1; allowed: a number of batches, or",
        ),
        ("trainer.limit_val_batches=0.4", "trainer.limit_val_batches: got 0.4; allowed: a number of batches, or at"),
        ("loss.class_weights={a:2,d:1}", "loss.class_weights: unknown class 'd'. Allowed: a, b, c."),
        ("trainer.devices=[0]", "trainer.devices: got [0]; the CPU has a number of processes, not a list."),
        ("hydra.job.chdir=true", "hydra.job.chdir: got true; a relative path means the folder that"),
    ],
)
def test_what_does_not_fit_few_images_or_the_cpu_is_refused(photos, wrong, said):
    fitting = ["data.batch_size=8", "fitting=steps", "data.val_fraction=0.5"]
    (found,) = errors_of(command([*photos, *fitting, wrong]))
    assert found.startswith(said)


def test_weights_of_classes_by_name_are_accepted(photos, capsys):
    check(command([*photos, "loss.class_weights={a:2}"]))
    assert "Nothing is wrong." in capsys.readouterr().out


def test_a_batch_of_one_image_is_refused_where_batch_norm_would_see_single_values(photos, capsys):
    small = [*photos, "freezing=none", "data.batch_size=1"]
    (said,) = errors_of(["model=efficientnet_lite0", "model.image_size=32", *small])
    assert said.startswith("data.batch_size: got 1; BatchNorm of a trained stage sees one value of each channel")
    check(command(small))  # whose feature maps are larger
    assert "Nothing is wrong." in capsys.readouterr().out


def test_values_with_commas_get_one_error_with_the_quoting_that_works(photos):
    (said,) = errors_of(command(["data=folder", "data.root=a,b"]))
    assert said == (
        "data.root: got 'a,b'; these values are a job each. Add -m for a sweep, write data.root=[a,b] for a list, or "
        "'data.root=\"a,b\"' for one text."
    )


def test_a_callback_whose_package_is_missing_is_refused(monkeypatch):
    monkeypatch.setattr("regraft.training.preflight.trainer_check.find_spec", lambda name: None)
    target = "pytorch_lightning.callbacks.DeviceStatsMonitor"
    (said,) = errors_of(command(["data=digits", f"+callbacks.stats._target_={target}"]))
    assert said.startswith("callbacks.stats: it needs psutil, which isn't installed.")


OF_LIGHTNING = "_target_=pytorch_lightning.callbacks"


def test_what_would_end_a_training_with_an_error_of_python():
    given = {
        f"+callbacks.a.{OF_LIGHTNING}.EarlyStopping": "",
        "+callbacks.a.monitor=loss": "callbacks.a.monitor: unknown metric 'loss'. Did you mean 'val/loss'?",
        f"+callbacks.b.{OF_LIGHTNING}.EarlyStoppin": "callbacks.b._target_: got 'pytorch_lightning.callbacks.EarlySt",
        f"+callbacks.c.{OF_LIGHTNING}.EarlyStopping": "callbacks.c.monitor: it has no value.",
        "+callbacks.d._target_=pytorch_lightning.loggers.CSVLogger": "callbacks.d._target_: got 'pytorch_lightning.lo",
        f"+logger.x.{OF_LIGHTNING}.Timer": "logger.x._target_: got 'pytorch_lightning.callbacks",
        "trainer.val_check_interval=0": "trainer.val_check_interval: got 0; allowed: a number of batches",
        "trainer.devices=-1": "trainer.devices: got -1; allowed: a number of 1 or more",
        "+freezing.x=1": "freezing.x: unknown key 'x'. Allowed: none.",
    }
    said = errors_of([*command(given), "trust=[pytorch_lightning]"])
    expected = [start for start in given.values() if start]
    assert all(sum(line.startswith(start) for line in said) == 1 for start in expected), said
    assert len(said) == len(expected), said


@pytest.mark.parametrize("given", [[], ["data.batch_size=64"]], ids=["default", "given"])
def test_the_usual_batch_size_may_be_larger_than_a_small_data_set(photos, given, capsys):
    check(command([*photos, *given]))
    assert "3 classes (a, b, c)" in capsys.readouterr().out


def test_images_that_cannot_be_decoded_are_an_error(photos, tmp_path):
    for path in (tmp_path / "photos").rglob("*.png"):
        path.write_bytes(b"no picture")
    (said,) = errors_of(command(photos))
    assert said.startswith("data.root: 30 of 30 images")


@pytest.mark.parametrize("wrong", ["optimizr.lr=1", "+optimizer.lr.x=1", "seed=${nowhere}", "data.rot=3"])
def test_a_choice_isnt_blamed_for_another_mistake(wrong, photos):
    assert len(errors_of(command([*photos, wrong]))) == 1


def test_missing_data_is_not_downloaded(capsys, tmp_path):
    check(command(["data=cifar10"]))
    assert "The data isn't here" in capsys.readouterr().out
    assert not (tmp_path / "data").exists()


def test_a_refused_training_reports_all_errors_and_leaves_no_files(capsys, tmp_path):
    code, _, err = run_main(["train", *command(["optimizer.lr=-1", "+lrr=3", "data.shots=0"])], capsys)
    assert code == 1
    assert [line.split()[1] for line in err.splitlines()] == ["lrr:", "optimizer.lr:", "data.shots:"]
    code, _, err = run_main(["train", *command(["data.batch_size=5000"])], capsys)
    assert code == 1
    assert err.startswith("regraft: data.batch_size: got 5000")
    assert not (tmp_path / "outputs").exists() or not list((tmp_path / "outputs").iterdir())


def test_a_refused_training_from_python_reports_all_errors(tmp_path):
    with pytest.raises(ConfigErrors) as refused:
        regraft.train([*SMALL, "optimizer.lr=-1", "modle=x", "head.dropout=2"])
    assert [sentence.partition(":")[0] for sentence in refused.value.messages] == [
        "modle",
        "optimizer.lr",
        "head.dropout",
    ]


def test_overrides_of_a_resumed_run_are_checked(run):
    said = errors_of([f"ckpt_path={run.path}", "trainer.max_epochs=4", "trainer.precision=16-mixed"])
    assert [sentence.partition(":")[0] for sentence in said] == ["trainer.precision"]


def test_a_wrong_number_of_epochs_of_a_resumed_run_is_one_error(run):
    (said,) = errors_of([f"ckpt_path={run.path}", "trainer.max_epochs=abc"])
    assert said.startswith("trainer.max_epochs: got 'abc'; allowed: 1 or more")


def test_an_unknown_flag_is_refused():
    with pytest.raises(
        ValueError,
        match=r"--foo: options are written KEY=VALUE, without dashes",
    ):
        check(["--foo"])


@pytest.mark.parametrize("named", [["head=scaled", "trust=[my_heads]"], ["head._target_=my_heads.ScaledHead"]])
def test_own_classes_are_accepted(named, tmp_path, capsys, monkeypatch):
    (tmp_path / "my_heads.py").write_text(
        "from torch import nn\n\n\nclass ScaledHead(nn.Linear):\n"
        "    def __init__(self, num_features, num_classes, *, dropout=0.0, init=None, init_std=0.0):\n"
        "        super().__init__(num_features, num_classes)\n"
    )
    (tmp_path / "cfg" / "head").mkdir(parents=True)
    (tmp_path / "cfg" / "head" / "scaled.yaml").write_text("# Mine\n_target_: my_heads.ScaledHead\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    folder = ["--config-dir", "cfg"] if named[0] == "head=scaled" else []
    check([*folder, *command(named)])
    assert "Nothing is wrong." in capsys.readouterr().out
    sys.modules.pop("my_heads")


def test_an_error_of_one_section_isnt_blamed_on_a_key_of_another():
    said = errors_of(command(["optimizer=lbfgs", "augment=flip", "features.dtype=float16"]))
    assert said == (
        "optimizer: LBFGS takes one step an epoch on all training features: it needs the same images in each epoch; "
        "use augment=none.",
    )


def test_an_error_of_the_trainer_isnt_blamed_on_the_progress_bar():
    (said,) = errors_of(command(["trainer.precision=transformer-engine", "trainer.enable_progress_bar=false"]))
    assert said.startswith("trainer.precision: got 'transformer-engine'")


def test_a_value_is_named_once():
    (said,) = errors_of(command(["optimizer._target_=torch.optim.SparseAdam"]))
    assert said.startswith("optimizer._target_: got 'torch.optim.SparseAdam'; it takes sparse gradients alone")


@pytest.mark.parametrize("empty", ["output_dir=", "data.root="])
def test_an_empty_path_is_refused(empty):
    said = errors_of(command(["data=folder", empty] if "root" in empty else [empty]))
    assert said[0].startswith(f"{empty[:-1]}: it is empty")


def test_globs_are_left_to_hydra(capsys):
    check(["-m", *command(["optimizer=glob(adam*)"])])
    assert "Nothing is wrong." in capsys.readouterr().out


def test_a_checkpoint_stays_in_its_folder():
    (said,) = errors_of(command(["callbacks.best.filename=../../x"]))
    assert "a checkpoint stays in its folder" in said


def test_the_learning_rate_over_the_run_is_shown(capsys):
    given = ["freezing=none", "trainer.max_epochs=4", "scheduler=multistep", "scheduler.milestones=[1,2]"]
    _, out, _ = run_main(["check", *command(given)], capsys)
    expected = "learning rate, after each epoch: 0.001 at first, 0.0001 at a quarter, 1e-05 at half"
    assert f"{expected}, 1e-05 at three quarters, 1e-05 in the last step" in out


def test_a_schedule_of_torch_without_its_class_has_one_fault():
    (said,) = errors_of(command(["freezing=none", "scheduler=torch"]))
    assert said == "scheduler._target_: it has no value yet; add scheduler._target_=... to the command."


def test_of_a_model_that_does_not_exist_nothing_else_is_said(capsys):
    code, _, err = run_main(["check", "data=books", "model=minlm", "freezing.num_stages=7", "trainer=cpu"], capsys)
    assert code == 1
    assert "model: unknown choice 'minlm'. Did you mean 'minilm'?" in err
    assert "it takes images" not in err
