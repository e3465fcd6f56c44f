"""What Regraft uses of Hydra beyond its public API: a test for each name."""

import logging

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from regraft.config.hydra_internals import BASIC_LAUNCHER, FileConfigSource, files_read_by, is_basic_launcher


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
