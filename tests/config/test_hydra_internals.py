"""What Regraft uses of Hydra beyond its public API: a test for each name."""

import logging

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import HydraContext
from omegaconf import OmegaConf, _utils, open_dict

from regraft.config.compose import compose_once
from regraft.config.hydra_internals import (
    BASIC_LAUNCHER,
    FileConfigSource,
    files_read_by,
    is_basic_launcher,
    quick_composing,
    run_in_its_folder,
)


def read(folder):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(folder), version_base="1.3"):
        return compose("main")


def test_files_read_by_a_class_of_ours_inside_the_block_only(tmp_path):
    (tmp_path / "main.yaml").write_text("a: 1\n")
    seen = []

    class Watched(FileConfigSource):
        word = "not set"

        def load_config(self, config_path):
            seen.append((config_path, self.word))
            return super().load_config(config_path)

    with files_read_by(Watched, word="set"):
        assert read(tmp_path).a == 1
    assert ("main", "set") in seen
    num_seen = len(seen)
    assert read(tmp_path).a == 1
    assert len(seen) == num_seen


def test_file_config_source_is_the_scheme_of_files():
    assert FileConfigSource.scheme() == "file"


def test_is_basic_launcher():
    from hydra._internal.core_plugins.basic_launcher import BasicLauncher
    from hydra.plugins.launcher import Launcher

    class Other(Launcher):
        def setup(self, *, hydra_context, task_function, config): ...

        def launch(self, job_overrides, initial_job_idx): ...

    assert is_basic_launcher(BasicLauncher())
    assert not is_basic_launcher(Other())


def test_basic_launcher_logs_under_its_module(caplog):
    import hydra._internal.core_plugins.basic_launcher as module

    with caplog.at_level(logging.INFO, BASIC_LAUNCHER):
        module.log.info("job")
    assert [record.name for record in caplog.records] == [BASIC_LAUNCHER]


def test_sources_registry_is_what_files_are_read_through(tmp_path):
    (tmp_path / "main.yaml").write_text("a: 1\n")

    class Refusing(FileConfigSource):
        def load_config(self, config_path):
            raise ValueError("refused")

    with files_read_by(Refusing), pytest.raises(Exception, match="refused"):
        read(tmp_path)


def test_quick_composing_reads_as_omegaconf_does(tmp_path):
    values = "f: 1e-3\ni: 012\nd: 2020-01-01\nb: off\nt: ${f}\nl: [1.5, .inf, 'x: y', {a: ~}]\np: &p {k: 1}\nq: *p\n"
    (tmp_path / "main.yaml").write_text(values)
    expected = OmegaConf.to_container(read(tmp_path), resolve=False)
    before = _utils.get_yaml_loader
    with quick_composing():
        assert OmegaConf.to_container(read(tmp_path), resolve=False) == expected
        (tmp_path / "main.yaml").write_text("a: 1\na: 2\n")
        with pytest.raises(yaml.YAMLError, match="duplicate key a"):
            read(tmp_path)
    assert _utils.get_yaml_loader is before


def test_defaults_list_with_an_interpolation_is_composed_as_by_hydra(tmp_path):
    (tmp_path / "main.yaml").write_text("defaults:\n  - g: x\n  - h: ${g}_y\n  - _self_\n")
    for name in ("g/x", "h/x_y"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / f"{name}.yaml").write_text(f"name: {name}\n")
    with quick_composing():
        assert read(tmp_path) == {"g": {"name": "g/x"}, "h": {"name": "h/x_y"}} == read(tmp_path)


def test_run_in_its_folder_does_what_hydras_run_mode_does(tmp_path):
    node = compose_once("train", ["data=digits", f"hydra.run.dir={tmp_path}/run"], None)
    seen = []

    def task(config):
        seen.append((config.seed, HydraConfig.get().runtime.output_dir))
        logging.getLogger("regraft").warning("a line")

    run_in_its_folder(node, task)
    assert seen == [(0, str(tmp_path / "run"))]
    assert {path.name for path in (tmp_path / "run" / ".hydra").iterdir()} == {
        "config.yaml",
        "hydra.yaml",
        "overrides.yaml",
    }
    assert "a line" in (tmp_path / "run" / "train.log").read_text()


def test_callbacks_of_hydras_are_called(tmp_path):
    callback = {"_target_": f"{__name__}.Heard"}
    node = compose_once("train", [f"hydra.run.dir={tmp_path}/run"], None)
    with open_dict(node.hydra.callbacks):
        node.hydra.callbacks.heard = callback
    run_in_its_folder(node, lambda config: HEARD.append("task"))
    assert HEARD == ["run start", "job start", "task", "job end", "run end"]


def test_config_loader_impl_and_search_path_make_a_context():
    context = HydraContext(config_loader=ConfigLoaderImpl(ConfigSearchPathImpl()), callbacks=Callbacks())
    assert context.config_loader.get_search_path().get_path() == []


def test_config_search_path_impl_is_a_search_path():
    assert isinstance(ConfigSearchPathImpl(), ConfigSearchPath)


HEARD: list[str] = []


class Heard(Callback):
    def on_run_start(self, config, **kwargs):
        HEARD.append("run start")

    def on_run_end(self, config, **kwargs):
        HEARD.append("run end")

    def on_job_start(self, config, **kwargs):
        HEARD.append("job start")

    def on_job_end(self, config, job_return, **kwargs):
        HEARD.append("job end")
