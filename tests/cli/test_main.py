import gc
import json
import logging
import os
import shutil
import subprocess
import sys

import pytest

from helpers.command_line import HEAVY, imported_by, run_main
from helpers.small import without
from regraft import __version__
from regraft.cli import commands
from regraft.cli.completion import complete
from regraft.cli.hydra_app import bare_words
from regraft.cli.main import main
from regraft.core.text import LogFormatter


def test_help_names_commands_groups_and_choices(capsys):
    code, out, _ = run_main(["--help"], capsys)
    assert code == 0
    assert all(command in out for command in ("train", "eval", "list"))
    assert "freezing=    gradual, last_stages, layerwise, linear_probe, lp_ft, none, up_to" in out


def test_the_keys_of_a_section_are_described(capsys):
    code, out, _ = run_main(["train", "--help", "data", "data=folder"], capsys)
    assert (code, "data.on_error=raise" in out, "raise | skip (leave them out" in out) == (0, True, True)
    code, _, err = run_main(["train", "--help", "optimzer"], capsys)
    assert (code, "Did you mean 'optimizer'?" in err) == (1, True)


def test_the_value_of_a_flag_is_no_section_to_explain(tmp_path):
    assert bare_words(["--config-dir", str(tmp_path), "--help", "data=folder", "~head", "optimizer"]) == ["optimizer"]


def test_the_schema_for_editors_is_printed(capsys):
    assert "properties" in json.loads(run_main(["schema"], capsys)[1])


def test_choices_are_listed_by_a_part_of_their_names(capsys):
    code, out, _ = run_main(["list", "resnet"], capsys)
    assert (code, out.split()) == (0, ["model=cifar_resnet", "model=resnet18", "model=resnet50"])


def test_warnings_of_a_command_without_a_log_are_escaped(capsys, monkeypatch):
    monkeypatch.setattr(logging.lastResort, "formatter", None)
    run_main(["--version"], capsys)
    assert isinstance(logging.lastResort.formatter, LogFormatter)


def test_a_deleted_current_folder_is_named(capsys, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    code, _, err = run_main(["list"], capsys)
    assert (code, err) == (1, "regraft: the current folder has been deleted. Change to one that exists (cd).\n")


def test_a_folder_of_configs_without_a_value_is_reported(capsys):
    code, _, err = run_main(["list", "--config-dir"], capsys)
    assert (code, err.startswith("regraft: --config-dir: it has no value")) == (1, True)


def test_help_of_a_command_shows_groups_and_config(capsys):
    code, out, _ = run_main(["train", "--help"], capsys)
    assert code == 0
    assert out.startswith("Put a head on a backbone, or fine-tune it: ")
    assert ".\nusage: regraft train " in out
    assert "simple_cnn" in out
    assert "max_epochs:" in out
    assert "_common" not in out


def test_version(capsys):
    assert run_main(["--version"], capsys)[1] == f"regraft {__version__}\n"


def test_cfg_job_prints_the_config_and_trains_nothing(capsys, tmp_path):
    code, out, _ = run_main(["train", "--cfg", "job", "optimizer.lr=0.5"], capsys)
    assert code == 0
    assert "lr: 0.5" in out
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["trian"], "unknown command 'trian'. Did you mean 'train'?"),
        (["list", "modles"], "unknown group 'modles'. Did you mean 'model'?"),
        (["train", "model=resnet81"], "model: unknown choice 'resnet81'. Did you mean 'resnet18'?"),
        (["train", "lr=0.1"], "lr: unknown key 'lr'. Did you mean 'optimizer.lr'?"),
        (["train", "optimizer.learning_rate=1"], "unknown key 'learning_rate'. Did you mean 'optimizer.lr'?"),
        (["train", "batch_size=32"], "batch_size: unknown key 'batch_size'. Did you mean 'data.batch_size'?"),
        (["train", "--lr", "0.1"], "--lr: options are written KEY=VALUE, without dashes. Write optimizer.lr=0.1."),
        (["train", "--epochs=3", "-m"], "Write trainer.max_epochs=3."),
        (["train", "resnet18"], "resnet18: it has no value. Did you mean model=resnet18?"),
        (["train", "/usr"], "/usr: it has no value. For data of your own use data=folder data.root=/usr."),
        (["train", "modle=resnet18"], "modle: unknown key 'modle'. Did you mean 'model'?"),
        (["train", "data=folder"], "data.root: it has no value yet"),
        (["train", "data=folder", "data.root=2024"], "data.root: got 2024; allowed: the path of one folder. Use data"),
        (["train", "ckpt_path=nowhere"], "nowhere doesn't exist"),
        (["eval", "ckpt_path=x", "data=cifar10o"], "data: unknown choice 'cifar10o'. Did you mean 'cifar10'?"),
        (["train", "trainer.devices=abc"], "trainer.devices: got 'abc'"),
        (["eval", "ckpt_path=x", "optimizer.lr=3"], "optimizer: an evaluation uses the run's own"),
        (["train", "hydra=foo"], "foo"),
        (["train", "callbacks.best.monitor=val/accc", "model=simple_cnn"], "Did you mean 'val/acc'?"),
        (["eval"], "run: it has no value yet"),
        (["eval", "run=nowhere"], "run: got 'nowhere'; there is no run in"),
        (["resume"], "run: it has no value yet; add run=last"),
        (["train", "run=last"], "regraft resume run=..."),
    ],
)
def test_a_users_mistake_is_one_sentence(arguments, sentence, capsys):
    code, _, err = run_main(arguments, capsys)
    assert code == 1
    assert sentence in err
    assert "Traceback" not in err
    assert err.startswith("regraft: ")
    assert err.count("\n") == 1


def test_an_unexpected_error_while_a_run_is_planned_leaves_a_traceback_in_its_folder(monkeypatch, capsys, tmp_path):
    def fail(*_arguments, **_options):
        raise RuntimeError("not expected")

    monkeypatch.setattr("regraft.training.plan.plan", fail)
    code, _, err = run_main(["train", "data=digits", "model=simple_cnn", "hydra.run.dir=failed"], capsys)
    assert code == 1
    assert "not expected" in err
    assert "in fail" in (tmp_path / "failed" / "traceback.txt").read_text()


def test_debugging_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("REGRAFT_DEBUG", "1")
    with pytest.raises(ValueError, match="unknown command"):
        main(["trian"])


def test_list_says_what_each_choice_is(capsys):
    code, out, _ = run_main(["list", "models"], capsys)
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert {"torchvision", "timm", "efficientnet_lite0", "checkpoint", "simple_cnn", "cifar_resnet", "mlp"} <= set(
        lines
    )
    assert all(len(line.split()) > 2 for line in lines.values())


def test_a_process_of_its_own_ends_without_looking_for_garbage_in_what_it_has_imported(capsys):
    end = "import atexit, gc, sys; atexit.register(lambda: print(gc.get_freeze_count() > len(gc.get_objects())))"
    call = "sys.argv = ['regraft', '--version']; from regraft.cli.main import main; main()"
    answer = subprocess.run([sys.executable, "-c", f"{end}; {call}"], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["regraft", __version__, "True"]
    frozen = gc.get_freeze_count()
    run_main(["--version"], capsys)
    assert gc.get_freeze_count() == frozen


def test_module_is_the_command():
    answer = subprocess.run([sys.executable, "-m", "regraft", "--version"], capture_output=True, text=True, check=True)
    assert answer.stdout == f"regraft {__version__}\n"


@pytest.fixture(scope="module")
def completion(tmp_path_factory):
    """The folder of a program `regraft`, and what bash is to evaluate so that it completes."""
    program = tmp_path_factory.mktemp("bin") / "regraft"
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m regraft \"$@\"\n")
    program.chmod(0o755)
    script = subprocess.run([program, "-sc", "install=bash"], capture_output=True, text=True, check=True).stdout
    return program.parent, script


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("regraft tr", {"train"}),
        ("regraft train data=cifar10 data.ver", {"data.verify="}),
        ("regraft resume run=", {"run=last", "run=best", "run=digits/abc"}),
    ],
)
def test_completion_in_bash(line, expected, completion, tmp_path):
    (tmp_path / "outputs" / "digits" / "abc").mkdir(parents=True)
    (tmp_path / "outputs" / "digits" / "abc" / "config.yaml").touch()
    folder, installing = completion
    words = line.split(" ")
    script = f"""
        {installing}
        COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}; COMP_LINE="{line}"; COMP_POINT={len(line)}
        hydra_bash_completion
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}
    answer = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert set(answer.stdout.split()) == expected, answer.stderr


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("regraft train trainer=", {"trainer=auto", "trainer=cpu", "trainer=ddp", "trainer=fsdp", "trainer=gpu"}),
        ("regraft train optimizer.l", {"optimizer.last_stage_solvers=", "optimizer.lr="}),
        (
            "regraft train optimizer=sgd optimizer.",
            {
                *("optimizer._target_=", "optimizer.lr=", "optimizer.momentum=", "optimizer.nesterov="),
                *("optimizer.weight_decay=", "optimizer.decay_norm_and_bias="),
            },
        ),
        ("regraft train optimizer.s", {"optimizer.solvers.", "optimizer.stage_sets="}),
        ("regraft train optimizer.w", {"optimizer.weight_decay="}),
        ("regraft train optimizer.sol", {"optimizer.solvers."}),
        ("regraft list sche", {"scheduler"}),
        ("regraft re", {"report", "resume", "reproduce"}),
        ("regraft predict run=last tt", {"tta="}),
        ("regraft resume run=last trainer.max_e", {"trainer.max_epochs="}),
    ],
)
def test_what_bash_is_given(line, expected, monkeypatch, capsys):
    monkeypatch.setenv("COMP_LINE", line)
    assert set(run_main(["-sc", "query=bash"], capsys)[1].split()) == expected


@pytest.mark.parametrize(
    ("line", "num"),
    [
        ("train run=", 1),
        ("train data.fr", 1),
        ("train optimizer.lr=0.1 optimizer.w", 1),
        ("train trainer.max_epochs=3 scheduler.", 1),
        ("train scheduler.", 2),
    ],
)
def test_a_completion_composes_once_where_it_is_known_how_the_head_is_trained(line, num, monkeypatch):
    composed = []
    monkeypatch.setenv("COMP_LINE", f"regraft {line}")
    monkeypatch.setattr("regraft.cli.completion.run_app", lambda command, arguments: composed.append(command))
    complete(["query=bash"])
    assert len(composed) == num


def test_a_sweep_runs_each_job_and_says_a_line_for_each(capsys, tmp_path):
    one_epoch = [*without("trainer.max_epochs"), "trainer.max_epochs=1"]
    sweep = ["-m", "optimizer.lr=1e-3,1e-2"]
    code, out, _ = run_main(["train", *one_epoch, *sweep], capsys)
    assert code == 0
    (folder,) = (tmp_path / "outputs" / "digits-simple_cnn").iterdir()
    assert folder.name.startswith("sweep-")
    jobs = sorted(path for path in folder.iterdir() if path.is_dir())
    assert [job.name for job in jobs] == ["0", "1"]
    assert all((job / "results.json").is_file() for job in jobs)
    assert "The head is trained in steps (fitting=steps), because of freezing=none, trainer.max_epochs=1" in out
    table = out[out.index("Sweep of 2 jobs") :]
    assert table.startswith(f"Sweep of 2 jobs in {folder}: 2 ok\n")
    assert table.count("test/acc 0.") == 2
    assert "optimizer.lr=0.01" in table


def test_a_failed_job_of_a_sweep_fails_the_command_and_not_the_others(capsys, tmp_path):
    one_epoch = [*without("trainer.max_epochs", "data.fraction"), "trainer.max_epochs=1"]
    code, out, err = run_main(["train", *one_epoch, "-m", "data.shots=100000,1"], capsys)
    assert code == 1
    assert "1 of 2 jobs failed" in err
    (line,) = [line for line in out.splitlines() if line.startswith("  0  data.shots=100000")]
    assert line.split()[2] == "failed"
    assert "data.shots" in line.split("failed")[1]
    (folder,) = (tmp_path / "outputs" / "digits-simple_cnn").iterdir()
    assert (folder / "1" / "results.json").is_file()
    assert "Traceback" in (folder / "0" / "traceback.txt").read_text()


NEW_COMMAND = '''"""Greet someone: regraft hello name=NAME."""

from regraft.cli.command import Command


def run(arguments):
    COMMAND.require_keys(arguments)
    print("Hello", *arguments)


COMMAND = Command(name="hello", run=run, usage="regraft hello name=NAME", details="It greets.", keys=("name",))
'''


def test_a_command_is_one_file(monkeypatch, capsys, tmp_path):
    (tmp_path / "hello.py").write_text(NEW_COMMAND)
    monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
    monkeypatch.setenv("COMP_LINE", "regraft he")
    assert "\n  hello     Greet someone: regraft hello name=NAME.\n" in run_main(["--help"], capsys)[1]
    assert run_main(["-sc", "query=bash"], capsys)[1] == "hello\n"
    assert run_main(["hello", "name=you"], capsys)[:2] == (0, "Hello name=you\n")
    assert run_main(["hello", "--help"], capsys)[1] == "Greet someone.\nusage: regraft hello name=NAME\nIt greets.\n"
    assert "unknown key 'nam'. Did you mean 'name'?" in run_main(["hello", "nam=you"], capsys)[2]
    assert "unknown command 'helo'. Did you mean 'hello'?" in run_main(["helo"], capsys)[2]
    monkeypatch.delitem(sys.modules, "regraft.cli.commands.hello")


@pytest.mark.parametrize("name", [*commands.names(), "_join"])
def test_a_command_has_the_name_of_its_file(name):
    assert commands.find(name).name == name


def test_a_command_is_light_until_it_runs():
    code = "from regraft.cli import commands; [commands.find(name) for name in [*commands.names(), '_join']]"
    assert not imported_by(code, [*HEAVY, "numpy"])


def test_help_imports_no_command():
    modules = [f"regraft.cli.commands.{name}" for name in commands.names()]
    assert not imported_by("from regraft.cli.help import help_text; help_text()", [*HEAVY, *modules])


def test_a_command_that_torchrun_has_started_twice_is_one_sentence(capsys, monkeypatch):
    variables = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}
    for name, value in (variables | {"GROUP_WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "photos"}).items():
        monkeypatch.setenv(name, value)
    for words in (["eval", "run=last"], ["predict", "run=last", "input=a.png"], ["auto", "data=digits"], ["list"]):
        code, out, err = run_main(words, capsys)
        assert (code, out) == (1, "")
        assert err.startswith(
            "regraft: torchrun has started 2 processes of this command, each of which would do all of"
        )
    shared = [name for name in commands.names() if commands.find(name).shares_work]
    assert shared == ["fill", "resume", "train"]
