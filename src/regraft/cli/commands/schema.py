"""Print the JSON schema of a training's config files, for editors: regraft schema > schema.json."""

import json
from collections.abc import Sequence

from regraft.cli.command import Command
from regraft.config.schema import training_schema
from regraft.core.text import say


def run(arguments: Sequence[str]) -> None:
    """Prints the schema."""
    COMMAND.require_keys(arguments)
    say(json.dumps(training_schema(), indent=2))


COMMAND = Command(
    name="schema",
    run=run,
    usage="regraft schema",
    details="""An editor that knows YAML completes, explains and checks the keys of a file that begins with
# yaml-language-server: $schema=PATH/schema.json""",
)
