"""The end of a training: which weights were tested, on how many images, and what is next."""

import os
import shutil

import pytest

from regraft.report import next_steps, terminal
from regraft.runs.folder import Run


def test_the_end_names_the_weights_the_images_and_the_next_commands(small_run, capsys, monkeypatch):
    results, counts = small_run.results, small_run.results["class_counts"]
    epoch = results["kept"]["epoch"]
    value = small_run.history()["val/acc"][epoch]
    tested = next_steps.tested_weights(results, small_run)
    reached = f"best.ckpt, after {epoch + 1} of {results['num_epochs']} epochs"
    assert tested == f"{reached}, val/acc {value:.4f} on {sum(counts['val'])} images"
    assert next_steps.accuracy_note(small_run, "test/acc", "images").endswith(f", {sum(counts['test'])} images)")
    assert next_steps.accuracy_note(small_run, "test/f1", "images") == ""
    terminal.show_results(results, small_run)
    shown = capsys.readouterr().out
    assert reached in shown
    assert f"  regraft resume run={small_run.path} trainer.max_epochs={2 * results['num_epochs']}" in shown
    monkeypatch.chdir(small_run.path.parent)
    name = os.path.basename(small_run.path)  # noqa: PTH119
    assert next_steps.next_commands(results, small_run)[:2] == [
        f"regraft predict run={name} input=PATH",
        f"regraft serve run={name}",
    ]


def test_what_is_next_depends_on_how_the_run_ended(small_run, tmp_path):
    limited = small_run.results | {"limit": "trainer.max_time=1, after 1 epochs"}
    assert next_steps.next_commands(limited, small_run)[-1] == f"regraft resume run={small_run.path}"
    refitted = small_run.results | {"refit": {"num_epochs": 2}}
    assert len(next_steps.next_commands(refitted, small_run)) == 2
    assert (
        next_steps.tested_weights(refitted, small_run) == "best.ckpt, fitted again on all images, validation included"
    )
    assert next_steps.next_commands(small_run.results, type(small_run)(tmp_path)) == []


def test_images_are_counted_and_not_their_labels(small_run):
    counts = small_run.results["class_counts"]
    labels = small_run.results | {"class_counts": counts | {"val": [1000 for _ in counts["val"]]}}
    assert f"on {sum(counts['val'])} images" in next_steps.tested_weights(labels, small_run)


@pytest.mark.parametrize(("section", "commands"), [("callbacks.mine", ["predict", "serve"]), ("model", [])])
def test_no_command_is_named_that_lacks_an_object_of_python(small_run, tmp_path, section, commands):
    run = Run(shutil.copytree(small_run.path, tmp_path / "run"))
    config, (group, _, name) = run.config, section.partition(".")
    node = {"_target_": "regraft.training.given.given_callback", "given": "Mine-0"}
    config[group] = config[group] | ({name: node} if name else node)
    run.write_config(config)
    shown = next_steps.next_commands(small_run.results, run)
    assert [each.split()[1] for each in shown] == commands
