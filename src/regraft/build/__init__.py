"""The only place where config becomes objects.

Below it nobody sees a config: every object gets plain arguments. What the objects do belongs in their own rooms.
"""

from regraft.build.parts import Parts, assemble, bare_backbone, datamodule, optimizer_groups, transfer_module
from regraft.build.running import callbacks, loggers, trainer

__all__ = [
    "Parts",
    "assemble",
    "bare_backbone",
    "callbacks",
    "datamodule",
    "loggers",
    "optimizer_groups",
    "trainer",
    "transfer_module",
]
