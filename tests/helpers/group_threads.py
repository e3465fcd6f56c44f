"""A group as each of its processes sees it; here they are threads."""

from concurrent.futures import ThreadPoolExecutor

import torch.distributed as dist

from regraft.core.launcher import Place
from regraft.training.fit.group import Group


def processes(number, num_nodes=1):
    """Returns a group as each of its processes sees it; here they are threads."""
    store, per_node = dist.HashStore(), number // num_nodes
    found = []
    for rank in range(number):
        found.append(Group(Place("torchrun", rank, number, rank % per_node, per_node, rank // per_node, num_nodes)))
        found[-1]._store = store
    return found


def each(group, function):
    """Returns what a function returns, or raises, in each process."""
    with ThreadPoolExecutor(len(group)) as pool:
        tasks = [pool.submit(function, process) for process in group]
        return [task.exception() or task.result() for task in tasks]
