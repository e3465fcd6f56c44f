"""Print the choices of config groups: regraft list models|data|freezing|..."""

from regraft.cli.command import Command
from regraft.config.groups import group_choices, group_names
from regraft.config.meant import choices_meant
from regraft.core.errors import ConfigError, UnknownNameError
from regraft.core.text import say


def run(arguments: list[str]) -> None:
    """Prints the choices of some groups, or of all, or those with a word in their names."""
    config_dir = None
    if "--config-dir" in arguments:
        index = arguments.index("--config-dir")
        if index + 1 == len(arguments):
            raise ConfigError("--config-dir", "it has no value", allowed=COMMAND.usage)
        config_dir = arguments[index + 1]
        del arguments[index : index + 2]
    groups = group_names(config_dir)
    wanted = arguments or groups
    for name in wanted:
        spellings = (name, name.removesuffix("s"), name.removesuffix("es"))
        singular = next((word for word in spellings if word in groups), "")
        if singular not in groups and (choices := choices_meant(name)):
            say("\n".join(choices))
            continue
        if singular not in groups:
            raise UnknownNameError(None, "group", name, groups)
        if len(wanted) > 1:
            say(f"{singular}:")
        for choice, line in group_choices(singular, config_dir).items():
            say(f"  {choice:<22} {line}")


COMMAND = Command(
    name="list",
    run=run,
    usage="regraft list [GROUP | WORD]... [--config-dir FOLDER]",
    details="""Without a group the choices of all groups are printed; a WORD such as resnet finds the choices that have
it. FOLDER has configs of your own.""",
    words=group_names,
)
