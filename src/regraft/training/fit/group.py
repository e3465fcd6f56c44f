"""Processes that torchrun or srun has started, on one or several nodes, as one run.

The first one does what a lone command does until a run can be trained. The others wait for it at torch's store, which
Lightning's own group uses as well, and get the run's config; then each of them trains as a process of that group.
"""

import atexit
import itertools
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import yaml

from regraft.core import slurm
from regraft.core.errors import ConfigError, errors_in, listed
from regraft.core.launcher import Place
from regraft.core.startup import Preempted
from regraft.runs.folder import Run
from regraft.runs.resuming import resume_command
from regraft.training.fit.signs_of_life import SignsOfLife

_FAILED = "failed"
_FIRST_WAIT, _LONGEST_WAIT = 0.01, 0.25
_SECONDS_TO_TELL = 10.0
_SECONDS_TO_ANSWER = 5.0
_SECONDS_TO_REQUEUE = 15.0
_NUM_SHOWN = 3
_numbers = itertools.count()
T = TypeVar("T")


class EndedElsewhereError(ConfigError):
    """Another process of the group has failed; `is_on_this_node` if it has printed why on this one."""

    def __init__(self, reason: str, *, is_on_this_node: bool = False) -> None:
        super().__init__(None, reason)
        self.is_on_this_node = is_on_this_node


class Group:
    """The processes of a run, as this one sees them.

    Values are exchanged as YAML: they are of plain types.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._prefix = f"regraft/{next(_numbers)}"
        self._store: Any = None
        self._places: list[str] = []
        self._meeting: Future[Any] | None = None
        self._signs = SignsOfLife(place.rank, place.num_processes)

    @property
    def is_first(self) -> bool:
        """Whether this is the process of rank 0."""
        return self.place.rank == 0

    def connect(self, seconds: float) -> None:
        """Connects to the store, and waits until all processes have.

        Raises:
            ConfigError: the port is in use, or a process doesn't come in time.
        """
        address, port = _address(self.place)
        import torch.distributed as dist

        query = f"env://?rank={self.place.rank}&world_size={self.place.num_processes}"
        # Not here, as torch would wait without an end for a port that another program has.
        self._meeting = _begun(lambda: next(dist.rendezvous(query, timeout=timedelta(seconds=seconds))))
        try:
            store, _, _ = self._meeting.result(seconds + _SECONDS_TO_TELL)
        except Exception as error:
            if self.is_first and isinstance(error, dist.DistNetworkError):
                reason = " ".join(str(error).split())
                fix = "Use another one, on each node: export MASTER_PORT=29600."
                raise ConfigError(None, f"port {port} can't be used: {reason}", fix=fix) from error
            which = f"that {self.place.launcher} has started, {self.place.num_processes} in all, at {address}:{port}"
            raise _late(self.place, seconds, which) from error
        self._store = dist.PrefixStore(self._prefix, store)
        self._store = dist.PrefixStore(self._session(seconds), self._store)
        self._signs.start(self._store)
        self._places = self.gather("here", str(self.place), seconds)

    def close(self) -> None:
        """Ends what this process does at the store."""
        self._signs.stop()
        if self._meeting is not None and not self._meeting.done():  # torch can't be told to stop
            atexit.register(_end_at_once)

    def make_process_group(self, device: Any, seconds: float | None) -> None:
        """Makes torch's process group, which Lightning takes over.

        Lightning's own would share its keys with those that torchrun has started before.

        Args:
            device: that this process computes on.
            seconds: that the processes wait for one of them; None for torch's default.
        """
        import torch.distributed as dist

        if dist.is_initialized():  # by the first of two fits
            return
        self.gather("process group", None)
        # Torch keeps the first one, and so the server of later groups; one that waits answers nothing else.
        store, self._store = self._store, self._store.clone()
        make = partial(
            dist.init_process_group,
            dist.Backend.default_device_backend_map.get(device.type, "gloo"),
            store=store,
            rank=self.place.rank,
            world_size=self.place.num_processes,
            device_id=None if device.type == "cpu" else device,
            timeout=None if seconds is None else timedelta(seconds=seconds),
        )
        # Not here, as torch would wait for minutes for a process that has failed.
        self._meeting = _begun(make)
        while not self._meeting.done():
            wait([self._meeting], _LONGEST_WAIT)
            self._require_living()
        self._meeting.result()

    def _session(self, seconds: float) -> str:
        """Returns a name that only the processes of this start have; the store may have keys of earlier ones."""
        own, number = uuid.uuid4().hex, self.place.num_processes
        if not self.is_first:
            self._set(f"hello/{self.place.rank}", own)
            name: str = self._get(f"session/{own}", seconds)
            self._set(f"met/{name}/{self.place.rank}", None)
            return name
        started, waiting = time.monotonic(), set(range(1, number))
        with _ended_with_the_first(self.place):
            while waiting:
                for rank in list(waiting):
                    if self._store.check([f"hello/{rank}"]):
                        self._store.set(
                            f"session/{yaml.safe_load(self._store.get(f'hello/{rank}'))}", yaml.safe_dump(own)
                        )
                    if self._store.check([f"met/{own}/{rank}"]):
                        waiting.remove(rank)
                if time.monotonic() - started > seconds:
                    raise _late(self.place, seconds, f"of rank {listed(map(str, sorted(waiting)))}")
                time.sleep(_FIRST_WAIT)
        return own

    def gather(self, name: str, value: Any, seconds: float | None = None) -> list[Any]:
        """Returns the values of all processes, by rank; `seconds` is how long it waits, None for no limit."""
        self._set(f"{name}/{self.place.rank}", value)
        return [self._get(f"{name}/{rank}", seconds) for rank in range(self.place.num_processes)]

    def give(self, name: str, value: Any) -> None:
        """Gives a value to the other processes, as the first one."""
        self._set(name, value)

    def take(self, name: str) -> Any:
        """Returns the value that the first process gives, as another one."""
        return self._get(name)

    @contextmanager
    def in_turn(self, name: str) -> Iterator[None]:
        """Enters the block in the first process, then in the first of each other node, then in the others.

        What it puts on a disk, such as a download, is found by those that come later.
        """
        if not self.is_first:
            self._get(f"{name}/{'all' if self.place.local_rank == 0 else self.place.node}")
        yield
        if self.is_first:
            self._set(f"{name}/all", None)
        if self.place.local_rank == 0:
            self._set(f"{name}/{self.place.node}", None)

    def require_same(self, name: str, facts: Mapping[str, str]) -> None:
        """Raises ConfigError if one process has another fact than the first one, such as a version."""
        gathered = self.gather(name, [str(self.place), dict(facts)])
        (first, wanted), *others = gathered
        for place, found in others:
            names = [each for each in facts if found.get(each) != wanted.get(each)]
            if names:
                shown = "; ".join(f"{each} {found.get(each)}, not {wanted.get(each)}" for each in names[:_NUM_SHOWN])
                reason = f"{place} has another {name} than {first}: {shown}"
                raise ConfigError(None, reason, fix="All processes of a run need the same.")

    def tell(self, error: BaseException) -> bool:
        """Tells the others that this process fails; returns whether no other on this node has failed likewise."""
        keys = [each.key for each in errors_in(error)] if isinstance(error, Exception) else [None]
        causes = [f"{type(error).__name__} {key}" for key in keys]
        own = {"rank": self.place.rank, "host": socket.gethostname(), "causes": causes}
        try:
            self._set(f"said/{self.place.rank}", " ".join(str(error).split()) or type(error).__name__)
            first = yaml.safe_load(self._store.compare_set(_FAILED, "", yaml.safe_dump(own)))
        except (RuntimeError, ConfigError):  # the first process has ended, and its store with it
            return True
        if self.is_first and (self.place.launcher == "srun" or self.place.num_nodes > 1):
            time.sleep(4 * _LONGEST_WAIT)  # the store ends with this process, or with torchrun on its node
        return bool(
            first["rank"] == self.place.rank or first["host"] != socket.gethostname() or first["causes"] != causes
        )

    def requeue(self) -> None:
        """Requeues the Slurm job, as the first process; the others wait, as srun may end all when one of them ends."""
        with suppress(ConfigError):
            if self.is_first:
                slurm.requeue()
                self._set("requeued", None)
            else:
                self._get("requeued", _SECONDS_TO_REQUEUE)

    def failure(self) -> EndedElsewhereError | None:
        """Returns why another process has failed; None if none has said so."""
        try:
            found = yaml.safe_load(self._store.get(_FAILED)) if self._store.check([_FAILED]) else None
            if found is None or found["rank"] == self.place.rank:
                return None
            said = yaml.safe_load(self._store.get(f"said/{found['rank']}"))
        except RuntimeError:
            return None
        reason = f"the process of rank {found['rank']} on {found['host']} has failed: {said}"
        return EndedElsewhereError(reason, is_on_this_node=found["host"] == socket.gethostname())

    def lost(self) -> list[str]:
        """Returns the places of the processes that don't answer in a few seconds, when all have been interrupted."""
        ends, ranks = time.monotonic() + _SECONDS_TO_ANSWER, range(self.place.num_processes)
        try:
            self._store.set(f"alive/{self.place.rank}", "")
            while not self._store.check([f"alive/{rank}" for rank in ranks]) and time.monotonic() < ends:
                time.sleep(_LONGEST_WAIT)
            return [self._places[rank] for rank in ranks if not self._store.check([f"alive/{rank}"])]
        except RuntimeError:  # the store is on the first one's node
            return self._places[:1]

    def _require_living(self) -> None:
        """Raises EndedElsewhereError if another process has long given no sign of life."""
        if (silent := self._signs.silent(self._store)) is not None:
            reason = f"the process of rank {silent[0]} hasn't answered for {silent[1]:.0f} s, so this one ends, too"
            raise EndedElsewhereError(reason)

    def _set(self, key: str, value: Any) -> None:
        with _ended_with_the_first(self.place):
            self._store.set(key, yaml.safe_dump(value))

    def _get(self, key: str, seconds: float | None = None) -> Any:
        pause, started = _FIRST_WAIT, time.monotonic()
        with _ended_with_the_first(self.place):
            while not self._store.check([key]):
                if (failure := self.failure()) is not None:
                    raise failure
                self._require_living()
                if seconds is not None and time.monotonic() - started > seconds:
                    raise _late(self.place, seconds, f"of rank {key.rpartition('/')[2]}")
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_WAIT)
            return yaml.safe_load(self._store.get(key))


@contextmanager
def together(group: Group | None) -> Iterator[None]:
    """Tells the group's other processes of an error inside the block; on each node only one of them reports it."""
    try:
        yield
    except EndedElsewhereError as error:
        if error.is_on_this_node:
            raise SystemExit(1) from error
        raise
    except Exception as error:
        if group is not None and not group.tell(error):
            raise SystemExit(1) from error
        raise
    except (KeyboardInterrupt, Preempted) as error:
        if group is not None:
            group.tell(error)
        raise


@contextmanager
def naming_the_lost(group: Group | None, run: Run) -> Iterator[None]:
    """Turns an error of torch's, after another process has failed or is gone, into one that says which."""
    try:
        yield
    except RuntimeError as error:
        if group is None:
            raise
        if (failure := group.failure()) is not None:
            raise failure from error
        lost = group.lost()
        if not lost:
            raise
        resume = f"to resume it, started in the same way: {resume_command(run)}"
        rest = resume if run.can_resume else "no checkpoint had been written"
        raise EndedElsewhereError(f"no answer from {listed(lost)}, so the run ends; {rest}") from error


@contextmanager
def _ended_with_the_first(place: Place) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch's errors of the network
        raise EndedElsewhereError("the process of rank 0 or its node has ended, so this one ends, too") from error


def _address(place: Place) -> tuple[str, int]:
    """Returns where the store is, as Lightning has it, and sets the variables by which torch finds it."""
    from pytorch_lightning.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

    environment = TorchElasticEnvironment() if place.launcher == "torchrun" else SLURMEnvironment()
    address, port = environment.main_address, environment.main_port
    os.environ |= {"MASTER_ADDR": address, "MASTER_PORT": str(port)}
    return address, port


def _begun(function: Callable[[], T]) -> "Future[T]":
    """Calls a function in a thread that a process which ends doesn't wait for."""
    future: Future[T] = Future()

    def call() -> None:
        try:
            future.set_result(function())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return future


def _end_at_once() -> None:
    """Ends a failed process without what C++ does at its end, but shows what is still to be printed."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(1)


def _late(place: Place, seconds: float, which: str) -> ConfigError:
    return ConfigError(
        "trainer.start_timeout",
        f"{place} has waited {seconds:g} s for the processes {which}",
        fix="See the output of the other nodes; a longer wait is set on the command line.",
    )
