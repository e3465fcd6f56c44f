"""The text of `regraft --help`."""

from regraft import __version__
from regraft.cli import commands
from regraft.config.groups import groups_text


def help_text() -> str:
    """Returns the text of `regraft --help`."""
    lines = "\n".join(f"  {name:<9} {summary}" for name, summary in commands.summaries().items())
    return f"""Regraft {__version__}: new heads on pretrained backbones.

usage: regraft COMMAND [key=value | group=choice]... [-m] [--cfg job] [--help]

Commands
{lines}

Groups and their choices (`regraft list GROUP` describes them)
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
  regraft rank data=folder data.root=photos sizes=[96,128,224]
  regraft auto data=folder data.root=photos time=120
  regraft fill data=folder data.root=photos fill.share=1/4
  regraft data check photos
  regraft data pack photos shards

Completion
  eval "$(regraft -sc install=bash)"        (or zsh; for fish: regraft -sc install=fish | source)
REGRAFT_DEBUG=1 shows the traceback behind an error."""
