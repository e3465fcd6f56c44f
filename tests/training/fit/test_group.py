import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.distributed as dist

from helpers.group_threads import each, processes
from regraft.core.errors import ConfigError
from regraft.core.launcher import Place
from regraft.training.fit import group as groups
from regraft.training.fit import signs_of_life
from regraft.training.fit.group import EndedElsewhereError, Group, together
from regraft.training.fit.same_config import differences, require_same_config


def test_values_are_exchanged_by_rank():
    def exchange(process):
        if process.is_first:
            process.give("config", {"lr": 0.1, "weights": {0: 2.0}})
            return process.gather("rank", process.place.rank)
        return process.take("config"), process.gather("rank", process.place.rank)

    first, second, third = each(processes(3), exchange)
    assert first == [0, 1, 2]
    assert second == third == ({"lr": 0.1, "weights": {0: 2.0}}, [0, 1, 2])


def test_the_first_process_comes_first_then_those_of_the_other_nodes():
    entered = []

    def enter(process):
        with process.in_turn("downloads"):
            entered.append(process.place.rank)
            time.sleep(0.02)

    each(processes(4, num_nodes=2), enter)
    assert entered[0] == 0
    assert entered.index(2) < entered.index(3)


def test_another_version_is_named_with_its_place():
    def compare(process):
        process.require_same("version", {"torch": "2.6" if process.place.rank == 1 else "2.7", "regraft": "1"})

    for error in each(processes(2), compare):
        assert isinstance(error, ConfigError)
        assert f"rank 1 on {socket.gethostname()} has another version than rank 0" in str(error)
        assert "torch 2.6, not 2.7" in str(error)
        assert "regraft" not in str(error)


def test_another_config_is_named_with_its_keys():
    def compare(process):
        require_same_config(process, {"optimizer": {"lr": 0.1 * (1 + process.place.rank)}, "seed": 0})

    first, second = each(processes(2), compare)
    assert first is None
    assert "optimizer.lr is 0.2 here, 0.1 there" in str(second)
    assert "seed" not in str(second)
    assert differences({"a": float("nan")}, {"a": float("nan")}) == []
    assert differences({"a": 1}, {"b": 1}) == ["b is nothing here, 1 there", "a is 1 here, nothing there"]


def test_no_process_of_a_slurm_job_ends_before_the_first_has_requeued_it(monkeypatch):
    ended = []

    def requeue():
        time.sleep(0.05)
        ended.append("requeued")

    def end(process):
        process.requeue()
        ended.append(process.place.rank)

    monkeypatch.setattr(groups.slurm, "requeue", requeue)
    assert each(processes(2), end) == [None, None]
    assert ended[0] == "requeued"


def test_all_end_with_the_reason_of_the_one_that_fails_and_report_it_once_on_a_node(monkeypatch):
    def fail(process):
        with together(process):
            if process.place.rank == 1:
                raise ConfigError("data", "has no files")
            process.take("never")

    found = each(processes(3), fail)
    assert isinstance(found[1], ConfigError)
    assert [type(found[rank]) for rank in (0, 2)] == [SystemExit, SystemExit]  # silent, on the same node
    group = processes(2)
    assert group[1].tell(ConfigError("data", "has no files"))
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    with pytest.raises(EndedElsewhereError, match=r"rank 1 on .* has failed: data: has no files"), together(group[0]):
        group[0].take("never")


def test_the_same_error_of_two_processes_is_reported_by_one():
    first, second = processes(2)
    assert first.tell(ConfigError("data.root", "there is no folder"))
    assert not second.tell(ConfigError("data.root", "there is no folder"))
    assert second.tell(ConfigError("output_dir", "the disk is full"))


class Killable:
    """The store as a process has it that may be killed."""

    def __init__(self, store):
        self.store = store
        self.is_killed = False

    def clone(self):
        return self

    def set(self, key, value):
        if self.is_killed:
            raise RuntimeError("killed")
        self.store.set(key, value)

    def get(self, key):
        return self.store.get(key)

    def check(self, keys):
        return self.store.check(keys)


def test_a_process_that_is_killed_isnt_waited_for_and_one_that_works_for_long_is(monkeypatch):
    monkeypatch.setattr(signs_of_life, "_BEAT_SECONDS", 0.01)
    monkeypatch.setattr(signs_of_life, "_SILENT_SECONDS", 0.3)
    first, second = processes(2)
    second._store = Killable(second._store)
    with ThreadPoolExecutor(2) as pool:
        pool.submit(second._signs.give, second._store)
        waiting = pool.submit(first.gather, "stored", True)
        time.sleep(0.6)
        assert not waiting.done()
        second._store.is_killed = True
        with pytest.raises(EndedElsewhereError, match=r"rank 1 hasn't answered for \d+ s"):
            waiting.result(timeout=10)


def test_torch_keeps_the_connection_that_has_the_server(monkeypatch):
    """A second run of the process meets at the server of the first one, which ends with that connection."""
    given = []
    monkeypatch.setattr(dist, "init_process_group", lambda *arguments, **options: given.append(options["store"]))
    (process,) = processes(1)
    process._store = first = Killable(process._store)
    first.clone = lambda: Killable(first.store)
    process.make_process_group(torch.device("cpu"), None)
    assert given == [first]
    assert process._store is not first


def test_a_process_that_is_killed_before_torch_has_met_it_isnt_waited_for(monkeypatch):
    monkeypatch.setattr(signs_of_life, "_BEAT_SECONDS", 0.01)
    monkeypatch.setattr(signs_of_life, "_SILENT_SECONDS", 0.3)
    is_over = threading.Event()
    monkeypatch.setattr(dist, "init_process_group", lambda *arguments, **options: is_over.wait())
    first, second = processes(2)
    first._store, second._store = Killable(first._store), Killable(second._store)
    with ThreadPoolExecutor(2) as pool:
        pool.submit(second._signs.give, second._store)
        pool.submit(second.gather, "process group", None)
        making = pool.submit(first.make_process_group, torch.device("cpu"), None)
        time.sleep(0.1)
        second._store.is_killed = True
        with pytest.raises(EndedElsewhereError, match=r"rank 1 hasn't answered for \d+ s"):
            making.result(timeout=10)
    is_over.set()


def test_a_group_that_is_closed_has_no_thread_at_the_store():
    process, _ = processes(2)
    process.close()  # before it has connected
    process, _ = processes(2)
    process._store = Killable(process._store)
    process._signs.start(process._store)
    process._store.store.wait(["beat/0"])
    process.close()
    assert not [each for each in threading.enumerate() if each.name == "signs of life"]


def alone(rank, port, monkeypatch):
    """Returns the group of a process of srun, of which there is one more that never comes."""
    for name, value in {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_JOB_NAME": "train"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "environ", os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
    return Group(Place("srun", rank, 2, 0, 1, rank, 2))


def test_a_process_that_never_comes_is_waited_for_in_vain(monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(
        ConfigError, match=r"start_timeout: rank 0 on .* has waited 1 s for the processes that srun has"
    ):
        alone(0, port, monkeypatch).connect(1)


def test_a_port_in_use_is_named(monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} can't be used.*export MASTER_PORT="):
            alone(0, port, monkeypatch).connect(1)
        monkeypatch.setattr(groups, "_SECONDS_TO_TELL", 0.0)
        with pytest.raises(ConfigError, match=r"rank 1 on .* has waited"):
            alone(1, port, monkeypatch).connect(0.5)


def test_an_interrupted_process_tells_the_others():
    first, second = processes(2)
    with pytest.raises(KeyboardInterrupt), together(second):
        raise KeyboardInterrupt
    with pytest.raises(EndedElsewhereError, match=r"rank 1 .* has failed: KeyboardInterrupt"):
        first.take("never")
