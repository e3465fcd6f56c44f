import shutil
from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import get_object

import regraft
from helpers import evil
from regraft.config import compose
from regraft.config.shipped import shipped_targets
from regraft.config.sources import package_of, require_harmless
from regraft.config.trust import _KINDS, named_in, require_known, require_known_resolvers, require_known_targets
from regraft.config.written_paths import require_typed_paths
from regraft.models import weights
from regraft.models.backbones import from_run as grafted
from regraft.runs.checkpoint import read
from regraft.runs.folder import Run


@pytest.fixture
def canary(tmp_path, monkeypatch) -> Path:
    """What an evil thing would leave behind; the current folder is one that a module could be found in."""
    monkeypatch.syspath_prepend(str(tmp_path))
    evil.lay(tmp_path)
    return tmp_path / evil.CANARY


def config_dir(folder: Path, name: str, content: object) -> str:
    """Returns a folder of configs that holds one."""
    path = folder / "configs" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(folder / "configs")


def test_the_functions_of_regraft_among_them_are_there():
    ours = [node["_target_"] for node in evil.targets() if node["_target_"].startswith("regraft.")]
    assert all(callable(get_object(name)) for name in ours)


@pytest.mark.parametrize("node", evil.targets(), ids=lambda node: node["_target_"])
def test_an_evil_target_runs_nothing(node, canary, tmp_path):
    folder = config_dir(tmp_path, "head/evil", node)
    with pytest.raises(ValueError, match=r"evil\.yaml: .*_target_: it names .*add trust=\["):
        regraft.train(["head=evil"], config_dir=folder)
    with pytest.raises(ValueError, match=r"ckpt: 0\..*_target_: it names .*add trust=\["):
        require_known_targets([{"head": node}, {}], [], "some.ckpt")
    assert not canary.exists()


def test_evil_things_are_evil(canary):
    import runpy

    runpy.run_path("evil_module.py")
    assert canary.exists()
    canary.unlink()
    with pytest.raises(RuntimeError):  # too late
        torch.load("evil.pickle", weights_only=False)
    assert canary.exists()


@pytest.fixture(scope="module")
def checkpoints(small_run, tmp_path_factory) -> dict[str, Path]:
    content = torch.load(small_run.best_ckpt, weights_only=True)
    return evil.checkpoints(content, tmp_path_factory.mktemp("evil"))


@pytest.mark.parametrize("name", ["pickle", "global", "swapped", "config"])
def test_an_evil_checkpoint_runs_nothing(name, checkpoints, canary):
    path = checkpoints[name]
    sentence = "names 'os.system'" if name == "config" else "is refused"
    with pytest.raises(ValueError, match=sentence):
        read(path, [])
    if name != "config":
        with pytest.raises(ValueError, match=sentence):
            weights.read_file(path)
        with pytest.raises(ValueError, match=sentence):
            grafted.read(path)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["pickle", "config"])
def test_no_key_lets_an_evil_checkpoint_in(name, checkpoints, small_run, canary, tmp_path):
    path = checkpoints[name]
    run = shutil.copytree(small_run.path, tmp_path / "run")
    for kind in ("best", "last"):
        shutil.copy(path, run / "checkpoints" / f"{kind}.ckpt")
    (run / "checkpoints" / "previous.ckpt").unlink(missing_ok=True)
    (run / "checkpoints" / "last.ckpt.sha256").unlink()
    (run / "checkpoints" / "best.ckpt.sha256").unlink()
    small = ["data=digits", "model=simple_cnn", "freezing=none", "trainer=cpu", "logger=csv"]
    for call, overrides in [
        (regraft.evaluate, [f"ckpt_path={path}"]),
        (regraft.evaluate, [f"run={run}"]),
        (regraft.resume, [f"run={run}"]),
        (regraft.train, [*small, f"ckpt_path={path}"]),
        (regraft.train, [*small, f"head_from={path}"]),
        (regraft.train, ["data=digits", "model=checkpoint", f"model.path={path}"]),
        # Of a checkpoint's weights, the config isn't read.
        *([(regraft.train, [*small, f"model.weights={path}"])] if name == "pickle" else []),
    ]:
        with pytest.raises(ValueError, match=r"refused|names 'os\.system'|no file that torch\.save"):
            call(overrides)
    assert not canary.exists()


def test_a_run_of_a_stranger_runs_nothing(small_run, canary, tmp_path):
    run = shutil.copytree(small_run.path, tmp_path / "run")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["trainer"]["max_epochs"] = {"_target_": "evil_module.Anything"}
    config["trust"] = ["evil_module"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    for call in (regraft.resume, regraft.reproduce):
        with pytest.raises(ValueError, match=r"max_epochs\._target_: it names 'evil_module\.Anything'"):
            call([f"run={run}", *(["callbacks=early_stopping"] if call is regraft.resume else [])])
    assert not canary.exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"hydra": {"callbacks": {"x": {"_target_": "evil_module.Anything"}}}}, "hydra.callbacks.x._target_: this can"),
        ({"hydra": {"launcher": {"_target_": "evil_module.Anything"}}}, "hydra.launcher._target_: this can"),
        ({"hydra": {"sweeper": {"_target_": "evil_module.Anything"}}}, "hydra.sweeper._target_: this can"),
        ({"hydra": {"job_logging": {"handlers": {"file": {"filename": "x.py"}}}}}, "handlers.file.filename: this can"),
        ({"hydra": {"job": {"env_set": {"GIT_CONFIG_COUNT": "1"}}}}, "hydra.job.env_set.GIT_CONFIG_COUNT: this can"),
        ({"hydra": {"job": {"env_copy": ["SECRET"]}}}, "hydra.job.env_copy.0: this can"),
        ({"hydra": {"searchpath": ["pkg://evil_module"]}}, "hydra.searchpath.0: this can be given on the command line"),
        ({"hydra": "${head}"}, "hydra: this can be given on the command line only"),
        ({"x": {"hydra": {"searchpath": ["pkg://evil_module"]}}}, "x.hydra.searchpath.0: this can be given"),
        ({"defaults": [{"/head@hydra.callbacks.x": "mine"}]}, "defaults: they hold '/head@hydra.callbacks.x'"),
        ({"defaults": ["/head/mine@_global_.hydra.callbacks"]}, "defaults: they hold '/head/mine@_global_"),
        ({"trust": ["evil_module"]}, "trust can be given on the command line only"),
        ({"head": {"_target_": "${output_dir}"}}, r"names '\$\{output_dir\}'"),
        ({"head": "${oc.create:{_target_:evil_module.Anything}}"}, "oc.create isn't a known resolver"),
        ({"head": "${oc.decode:'{_target_:evil_module.Anything}'}"}, "oc.decode isn't a known resolver"),
        ({"head": "${oc.${seed}:x}"}, "the name of a resolver can't be seen"),
        ({"output_dir": "${oc.env:SECRET}"}, "oc.env reads the environment"),
        ({"output_dir": "${ oc.env :SECRET,x}"}, "oc.env"),
        ({"output_dir": "\\${oc.env:SECRET}"}, "oc.env reads the environment"),
    ],
)
def test_what_a_file_may_not_say(content, sentence, canary, tmp_path):
    text = "# @package _global_\n" + yaml.safe_dump(content)
    with pytest.raises(ValueError, match=sentence):
        compose.compose_once("train", ["experiment=evil"], config_dir(tmp_path, "experiment/evil", text))
    assert not canary.exists()


@pytest.mark.parametrize(
    ("name", "header"),
    [
        *(("hydra/job_logging/evil", None), ("experiment/evil", "hydra.job_logging"), ("experiment/hydra", "_name_")),
        *(("hydra/evil", "_group_"), ("experiment/evil", "_global_.hydra.job_logging")),
    ],
)
def test_what_is_of_hydra_is_known_wherever_it_stands(name, header):
    package = package_of(name, header)
    assert package.split(".")[0] == "hydra"
    with pytest.raises(ValueError, match="to let files say it, add trust"):
        require_harmless({"formatters": {"plain": {"format": "touch canary"}}}, [], "evil.yaml", package)
    require_harmless({"formatters": {"plain": {"format": "touch canary"}}}, ["hydra"], "mine.yaml", package)


@pytest.mark.parametrize(
    "content",
    [
        *({"hydra": {"run": {"dir": "x"}}}, {"hydra": {"sweep": {"dir": "x", "subdir": "y"}}}),
        *({"hydra": {"job": {"name": "../x"}}}, {"hydra": {"output_subdir": "x"}}, {"output_dir": "x"}),
        *({"features": {"dir": "${data.root}"}}, {"sweep": {"storage": "sqlite:///x"}}),
        *({"sweep": {"space": {"trust": ["a"]}}}, {"sweep": {"space": {"++features.dir": ["a", "b"]}}}),
        {"callbacks": {"x": {"_target_": "pytorch_lightning.callbacks.ModelCheckpoint", "dirpath": "x"}}},
        {"logger": {"x": {"_target_": "pytorch_lightning.loggers.CSVLogger", "save_dir": "x"}}},
    ],
)
def test_a_file_chooses_no_path_to_write_to(content, tmp_path):
    folder = config_dir(tmp_path, "experiment/mine", "# @package _global_\n" + yaml.safe_dump(content))
    with pytest.raises(ValueError, match=r"on the command line only"):
        compose.compose_once("train", ["experiment=mine"], folder)


def test_a_path_by_another_name_is_found_once_it_is_resolved(tmp_path):
    logger = {"_target_": "pytorch_lightning.loggers.CSVLogger", "name": "${elsewhere}"}
    content = {"logger": {"x": logger}, "elsewhere": "../../x", "callbacks": {"best": {"monitor": "val/loss"}}}
    folder = config_dir(tmp_path, "experiment/mine", "# @package _global_\n" + yaml.safe_dump(content))
    config = compose.plain(compose.compose_once("train", ["experiment=mine"], folder))
    with pytest.raises(ValueError, match=r"^logger\.x\.name: got '\.\./\.\./x'; a path to write to is given on the"):
        require_typed_paths(config, ["experiment", "logger"])
    for keys in (["logger.x.name"], ["logger.x"]):
        require_typed_paths(config, keys)


def test_a_path_in_a_strangers_run_is_not_written_to(small_run, tmp_path):
    run = Run(shutil.copytree(small_run.path, tmp_path / "run"))
    config = run.config
    config["callbacks"]["x"] = {"_target_": "pytorch_lightning.callbacks.ModelCheckpoint", "dirpath": "/elsewhere"}
    run.write_config(config)
    with pytest.raises(ValueError, match=r"^callbacks\.x\.dirpath: got '/elsewhere'; a path to write to is given on"):
        regraft.resume([f"run={run.path}", "trainer.max_epochs=3"])


def test_an_experiments_name_stays_in_the_folder_of_all_runs():
    composed = compose.compose_once("train", ["+at=${regraft.experiment:null,../../x,y}"], None)
    assert composed.at == "x-y"


def test_a_file_may_say_what_else_hydra_does(tmp_path):
    content = {"hydra": {"job": {"chdir": False}}, "optimizer": {"lr": 0.5}}
    folder = config_dir(tmp_path, "experiment/mine", "# @package _global_\n" + yaml.safe_dump(content))
    assert compose.compose_once("train", ["experiment=mine"], folder).optimizer.lr == 0.5


def test_own_modules_can_be_trusted(tmp_path):
    folder = config_dir(tmp_path, "head/mine", {"_target_": "my_heads.Scaled", "temperature": 2.0})
    for overrides in (["head=mine", "trust=[my_heads]"], ["head=mine", "trust=my_heads.Scaled"]):
        composed = compose.compose_once("train", overrides, folder)
        assert compose.plain(composed, overrides)["head"]["_target_"] == "my_heads.Scaled"
    typed = ["+callbacks.x._target_=mymodule.MyCallback", "+callbacks.y={_target_: mymodule.Other, a: [1]}"]
    typed += ["+callbacks.z._target_=regraft.training.given.given_callback"]  # needs no trust
    composed = compose.compose_once("train", typed, None)
    assert compose.plain(composed, typed)["trust"] == ["mymodule.MyCallback", "mymodule.Other"]


def test_what_is_trusted_is_what_was_typed():
    assert named_in(["trust=[a,b.c]", "data.root=trust", "-m", "head._target_=x.A,y.B"]) == ["a", "b.c", "x.A", "y.B"]
    composed = compose.compose_once("train", [], None)
    composed.trust = ["os"]
    composed.head = {"_target_": "os.system"}
    with pytest.raises(ValueError, match=r"^head\._target_: it names 'os\.system'"):
        compose.plain(composed, [])


@pytest.mark.parametrize(
    "target",
    [
        *("torch.optim.NAdam", "torch.optim.lr_scheduler.StepLR", "torch.nn.GELU", "timm.optim.Lion"),
        *("pytorch_lightning.callbacks.RichProgressBar", "pytorch_lightning.strategies.DDPStrategy"),
        *("pytorch_lightning.loggers.CSVLogger", "torchmetrics.classification.MulticlassAUROC"),
        *("torchvision.transforms.v2.RandomCrop", "pytorch_lightning.profilers.SimpleProfiler"),
    ],
)
def test_parts_of_the_libraries_may_be_named(target):
    require_known(target, [], "some file")


@pytest.mark.parametrize("module", _KINDS)
def test_nothing_else_of_a_library_may_be_named(module):
    names = [name for name in dir(get_object(module)) if not name.startswith("_")]
    for name in names:
        try:
            require_known(f"{module}.{name}", [], "some file")
        except ValueError:
            continue
        found = get_object(f"{module}.{name}")
        assert isinstance(found, type)
        assert issubclass(found, get_object(_KINDS[module]))
        assert found.__module__.split(".")[0] == module.split(".")[0]


def test_the_shipped_configs_name_what_they_may():
    assert {"regraft.models.heads.Linear", "torch.optim.SGD", "pytorch_lightning.Trainer"} <= shipped_targets()
    require_known_targets([{"_target_": name} for name in shipped_targets()], [], "some file")


@pytest.mark.parametrize(
    "text", ["${now:%Y}", "${seed}", "${hydra:runtime.cwd}/x", "${oc.select:a,b}", "a: b ${c}", "$x"]
)
def test_harmless_resolvers_are_known(text):
    require_known_resolvers(text, [], "some key")


def test_a_secret_reaches_no_saved_config(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2-hunter2")
    with pytest.raises(ValueError, match=r"oc\.env reads the environment") as caught:
        regraft.train(["data=digits", "output_dir=${oc.env:SECRET}"])
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ValueError, match=r"hydra\.job\.env_copy"):
        regraft.train(["data=digits", "hydra.job.env_copy=[SECRET]"])
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]


def test_a_command_of_shards_that_is_typed_is_trusted():
    urls = "data.urls='a.tar::pipe:cat b.tar'"
    assert named_in([urls, "data.path=pipe:x", "data.urls=c.tar"]) == ["pipe:cat b.tar"]
    assert named_in(["data.urls={train: 'pipe:cat c.tar', test: d.tar}"]) == ["pipe:cat c.tar"]


def test_a_folder_of_configs_may_be_called_anything():
    assert named_in(["--config-dir", "/home/me/trusted_configs", "trust=[mine]"]) == ["mine"]
