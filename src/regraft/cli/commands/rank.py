"""Compare backbones and input sizes on your data by heads in closed form, before training."""

from collections.abc import Sequence
from typing import Any

from regraft.cli.candidates import choices, compose_command, reasons
from regraft.cli.command import Command
from regraft.cli.interrupts import saying_what_is_kept
from regraft.cli.training_command import parse
from regraft.config.hydra_messages import MISTAKES, mistakes_in
from regraft.config.task_choice import explained_task
from regraft.core.console import Console
from regraft.core.errors import ConfigErrors, UnknownNameError
from regraft.core.remote import is_remote, output_at
from regraft.core.startup import quick_imports
from regraft.core.text import say


def run(arguments: Sequence[str]) -> None:
    """Ranks candidates; see the command's help."""
    command = parse(arguments)
    if command.other_flags or command.is_sweep:
        raise UnknownNameError("rank", "flag", [*command.other_flags, "-m"][0], ["--config-dir"])
    if command.errors:
        raise ConfigErrors(command.errors)
    if command.task is not None:
        say(explained_task(*command.task))
    config = compose_command("rank", command.with_task, command.config_dir)
    _rank(config, command.with_task, command.config_dir)


def _rank(config: dict[str, Any], overrides: Sequence[str], config_dir: str | None) -> None:
    with quick_imports():
        from regraft.core.console import image_progress_bar
        from regraft.core.modalities import SPECS
        from regraft.data.from_config import build_datamodule
        from regraft.report.tables import ranking as ranking_table
        from regraft.training.auto.candidates import Candidate
        from regraft.training.auto.ranking import measured, ranked
        from regraft.training.lightning import quiet_lightning
        from regraft.training.trainer import prepared_device

    quiet_lightning()
    device = prepared_device(config)
    data = build_datamodule(config, None)
    spec = SPECS[data.kind]
    found, errors = [], {}
    for choice in choices(config, overrides, config_dir, spec):
        progress = image_progress_bar(is_shown=Console().is_terminal, title=choice.name, nouns=spec.nouns)
        try:
            with saying_what_is_kept():
                found.append(measured(choice.model, Candidate(choice.composed(), data, device, progress)))
        except MISTAKES as error:
            errors[choice] = mistakes_in(error)
    if not found:
        raise ConfigErrors(each for of_one in errors.values() for each in of_one)
    in_order = ranked(found)
    ranking_table.show(in_order, reasons(errors), len(in_order[0].score.losses), data.task)
    if config["output"] is not None:
        output = config["output"]
        with output_at(output, "output") as path:
            ranking_table.write(path, in_order, data.task)
        say(f"Wrote {output if is_remote(output) else path.resolve()}")


COMMAND = Command(
    name="rank",
    run=run,
    usage="regraft rank [key=value | group=choice]... [models=[...]] [sizes=[...]] [output=FILE.csv]",
    details="""
The other keys are those of a training (regraft train --help). Features are kept in the store, so that a training on
one of the candidates computes none of them.""",
    config_name="rank",
)
