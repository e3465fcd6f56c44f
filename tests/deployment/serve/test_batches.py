"""Requests that wait at the same time are computed together, and fail alone."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from regraft.deployment.serve.batches import RequestBatches


class Held:
    """Doubles numbers, several requests at once; the first call waits until it is let go."""

    def __init__(self) -> None:
        self.calls: list[list[list[int]]] = []
        self.is_let_go = threading.Event()

    def compute(self, requests: list[list[int]]) -> list[list[int]]:
        self.calls.append([*requests])
        assert self.is_let_go.wait(10)
        if any(number < 0 for numbers in requests for number in numbers):
            raise ValueError("below 0")
        return [[2 * number for number in numbers] for numbers in requests]


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def batches(held: Held) -> Iterator[RequestBatches[list[int], list[int]]]:
    made = RequestBatches(held.compute, len, 4)
    yield made
    held.is_let_go.set()
    made.close()


def answers(batches: RequestBatches, held: Held, requests: list[list[int]]) -> list[object]:
    """Returns the answers to requests that come while another one is computed, whose answer is the first."""

    async def asked() -> list[object]:
        first = asyncio.create_task(batches.answer([0]))
        while not held.calls:
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(batches.answer(each)) for each in requests]
        await asyncio.sleep(0)
        held.is_let_go.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    return asyncio.run(asked())


def test_those_that_wait_are_computed_together_in_their_order(batches, held):
    assert answers(batches, held, [[1], [2, 3], [4, 5], [6] * 9, [7]]) == [[0], [2], [4, 6], [8, 10], [12] * 9, [14]]
    assert held.calls == [[[0]], [[1], [2, 3]], [[4, 5]], [[6] * 9], [[7]]]


def test_one_that_fails_costs_the_others_nothing(batches, held):
    first, one, bad, last = answers(batches, held, [[1], [-1], [2]])
    assert (first, one, last) == ([0], [2], [4])
    assert str(bad) == "below 0"
    assert held.calls == [[[0]], [[1], [-1], [2]], [[1]], [[-1]], [[2]]]


def test_what_waits_when_it_is_closed_is_dropped(batches, held):
    async def asked() -> object:
        first = asyncio.create_task(batches.answer([0]))
        while not held.calls:
            await asyncio.sleep(0.001)
        other = asyncio.create_task(batches.answer([1]))
        await asyncio.sleep(0)
        batches.close()
        held.is_let_go.set()
        return await asyncio.gather(first, other, return_exceptions=True)

    first, other = asyncio.run(asked())
    assert first == [0]
    assert isinstance(other, asyncio.CancelledError)
