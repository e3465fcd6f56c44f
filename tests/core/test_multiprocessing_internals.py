import multiprocessing
from multiprocessing.queues import Queue

from regraft.core.multiprocessing_internals import call_when_unsent


def test_call_when_unsent_gets_the_queue_and_the_item(monkeypatch):
    monkeypatch.setattr(Queue, "_on_queue_feeder_error", Queue._on_queue_feeder_error)
    call_when_unsent(lambda queue, error, item: queue.put((type(error).__name__, item[0])))
    queue = multiprocessing.get_context("spawn").Queue()
    queue.put((7, lambda: None))  # a local function can't be pickled
    assert queue.get(timeout=60)[1] == 7
    queue.close()
    queue.join_thread()
