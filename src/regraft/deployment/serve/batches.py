"""Requests that wait at the same time are computed together, in one thread, so that memory is bounded."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Inputs = TypeVar("Inputs")
Answer = TypeVar("Answer")


class RequestBatches(Generic[Inputs, Answer]):
    """Computes the inputs of requests, first come, first served: nothing waits for a batch to fill up.

    Args:
        compute: returns an answer for each request, in their order. If it raises an error for several, each is computed
            alone, and the error is that of the one request.
        num_inputs: returns how many inputs a request has.
        most: inputs of requests that are computed together; a single request may have more.
    """

    def __init__(
        self, compute: Callable[[Sequence[Inputs]], Sequence[Answer]], num_inputs: Callable[[Inputs], int], most: int
    ) -> None:
        self._compute = compute
        self._num_inputs = num_inputs
        self._most = most
        self._waiting: deque[tuple[Inputs, Future[Answer]]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predictions")

    async def answer(self, inputs: Inputs) -> Answer:
        """Returns the answer to a request."""
        future: Future[Answer] = Future()
        self._waiting.append((inputs, future))
        self._thread.submit(self._compute_waiting)  # which has nothing to do if another call has taken it by then
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Ends the thread after what it is computing; waiting requests are dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        for _, future in self._waiting.copy():
            future.cancel()

    def _compute_waiting(self) -> None:
        taken: list[tuple[Inputs, Future[Answer]]] = []
        num = 0
        while self._waiting and (not taken or num + self._num_inputs(self._waiting[0][0]) <= self._most):
            inputs, future = self._waiting.popleft()
            if future.set_running_or_notify_cancel():  # its client may have gone
                taken.append((inputs, future))
                num += self._num_inputs(inputs)
        if taken and not self._have_answered(taken):
            for each in taken:
                self._have_answered([each])

    def _have_answered(self, taken: Sequence[tuple[Inputs, Future[Answer]]]) -> bool:
        """Answers requests; returns False, without answers, if several can't be computed together."""
        try:
            answers = self._compute([inputs for inputs, _ in taken])
        except BaseException as error:
            if len(taken) > 1:
                return False
            taken[0][1].set_exception(error)
        else:
            for (_, future), answer in zip(taken, answers, strict=True):
                future.set_result(answer)
        return True
