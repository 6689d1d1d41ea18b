"""Data-parallel processes as threads that take turns: one runs until it meets the others in a collective."""

import threading
from collections.abc import Callable

import torch
from torch import distributed


class Ranks:
    """Takes the place of torch.distributed for `count` threads."""

    def __init__(self, count: int, monkeypatch) -> None:
        self.count = count
        self._turn, self._meeting = threading.Lock(), threading.Barrier(count)
        self._values: dict[int, torch.Tensor] = {}
        self._here = threading.local()
        monkeypatch.setattr(distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(distributed, "get_world_size", lambda group=None: count)
        monkeypatch.setattr(distributed, "get_rank", lambda group=None: self.rank)
        monkeypatch.setattr(distributed, "all_reduce", self._all_reduce)

    @property
    def rank(self) -> int:
        return getattr(self._here, "rank", 0)

    def run(self, work: Callable[[int], object]) -> list:
        """What `work(rank)` returns on each."""
        results: list = [None] * self.count
        errors = []

        def body(rank: int) -> None:
            self._here.rank = rank
            self._turn.acquire()
            try:
                results[rank] = work(rank)
            except BaseException as error:
                errors.append(error)
                self._meeting.abort()
            finally:
                self._turn.release()

        threads = [threading.Thread(target=body, args=(rank,)) for rank in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
            raise error
        return results

    def _all_reduce(self, tensor, op=distributed.ReduceOp.SUM, group=None) -> None:
        self._values[self.rank] = tensor.clone()
        self._turn.release()
        try:
            self._meeting.wait(60)
            every = torch.stack([self._values[rank] for rank in range(self.count)])
            self._meeting.wait(60)
        finally:
            self._turn.acquire()
        reduced = {
            distributed.ReduceOp.SUM: lambda: every.sum(0),
            distributed.ReduceOp.MAX: lambda: every.amax(0),
            distributed.ReduceOp.MIN: lambda: every.amin(0),
        }[op]()
        tensor.copy_(reduced)
