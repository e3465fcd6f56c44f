"""What the command line says of itself: the verbs, their help, and what can be chosen."""

from regraft import __version__
from regraft.config.compose import group_choices, group_names, groups_text, unknown

VERBS = {
    "train": "fine-tune a backbone: compose, train, test, keep everything in one run folder",
    "check": "say what is wrong with a training, all of it, without training; it takes what train takes",
    "eval": "measure a trained run again: regraft eval run=<run>, or ckpt_path=<file>",
    "predict": "say what pictures show: regraft predict run=<run> input=<photo, folder, glob, list.txt or ->",
    "export": "write a trained model as a file: regraft export run=<run> format=safetensors|onnx|torch_export|hf",
    "serve": "a local page and HTTP endpoint that say what photos show: regraft serve run=<run>",
    "resume": "go on with a run in its own folder: regraft resume run=last",
    "reproduce": "train a run again, and see whether it finds the same: regraft reproduce run=best",
    "runs": "list runs and how each stands: regraft runs [WORD]...",
    "report": "write a run's report anew, with what the model looked at: regraft report run=last",
    "compare": "tell who won: regraft compare [RUN | SWEEP]... [output=page.html]",
    "probe": "fit a grid of linear heads at once; the best one becomes a run",
    "data": "what is wrong with a data set: regraft data check PATH",
    "cache": "stored features: regraft cache ls|size|clear",
    "list": "print what can be chosen: regraft list models|data|freezing|...",
}
_HANDLES = """RUN is a run's folder; last, the one that was started or continued last; best, the finished one with
the highest test/acc, else val/acc; or a unique part of a folder's name. output_dir=PATH says where to look for it."""
USAGES = {
    "check": "regraft check [key=value | group=choice]... [-m] [--config-dir FOLDER]",
    "resume": "regraft resume run=RUN [trainer.max_epochs=N | key=value]... [resume.reset=[optimizer,scheduler]]",
    "report": "regraft report run=RUN [data.root=PATH] [trust=[...]]",
    "reproduce": "regraft reproduce run=RUN [data.root=PATH] [trust=[...]]",
}


def help_text() -> str:
    """Returns what `regraft --help` prints."""
    verbs = "\n".join(f"  {name:<9} {line}" for name, line in VERBS.items())
    return f"""Regraft {__version__}: new heads on pretrained backbones.

usage: regraft VERB [key=value | group=choice]... [-m] [--cfg job] [--help]

Verbs
{verbs}

Groups and their choices (`regraft list GROUP` says what each one is)
{groups_text()}

Examples
  regraft train experiment=quickstart
  regraft train data=folder data.root=photos model=resnet18 freezing=lp_ft
  regraft train -m optimizer.lr=1e-3,1e-2 freezing=linear_probe,lp_ft
  regraft runs
  regraft compare
  regraft report run=last
  regraft eval run=best
  regraft predict run=last input=photos output=predictions.csv
  regraft export run=last format=onnx preprocessing=true
  regraft serve run=last
  regraft resume run=last
  regraft probe data=folder data.root=photos
  regraft data check photos

Completion
  eval "$(regraft -sc install=bash)"        (or zsh; for fish: regraft -sc install=fish | source)
REGRAFT_DEBUG=1 shows the traceback behind an error."""


def usage_of(verb: str) -> str:
    """Returns the help of a verb that has no Hydra app of its own."""
    usage = f"usage: {USAGES[verb]}"
    return f"{usage}\n{_HANDLES}" if "run=" in usage else f"{usage}\nIt takes what train takes: regraft train --help."


def list_choices(arguments: list[str]) -> None:
    """Prints the choices of some groups, or of all; `--config-dir FOLDER` adds those of the user's own.

    Raises:
        ValueError: there is no such group.
    """
    config_dir = None
    if "--config-dir" in arguments:
        place = arguments.index("--config-dir")
        config_dir = arguments[place + 1]
        del arguments[place : place + 2]
    groups = group_names(config_dir)
    wanted = arguments or groups
    for name in wanted:
        spellings = (name, name.removesuffix("s"), name.removesuffix("es"))
        singular = next((word for word in spellings if word in groups), "")
        if singular not in groups:
            raise ValueError(unknown("group", name, groups))
        if len(wanted) > 1:
            print(f"{singular}:")
        for choice, line in group_choices(singular, config_dir).items():
            print(f"  {choice:<22} {line}")
