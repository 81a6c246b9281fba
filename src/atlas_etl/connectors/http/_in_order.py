"""Work done side by side, its results in the order in which it was given."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(work: Callable[[Item], Result], items: Iterable[Item], *, at_once: int) -> Iterator[Result]:
    """What `work` makes of each item, at most so many at once; raises what one of them raised."""
    if at_once == 1:
        yield from map(work, items)
        return
    left = iter(items)
    with ThreadPoolExecutor(at_once, thread_name_prefix="atlas-http") as pool:
        running: deque[Future[Result]] = deque()
        try:
            running += (pool.submit(work, item) for item in islice(left, at_once))
            while running:
                result = running.popleft().result()
                running += (pool.submit(work, item) for item in islice(left, 1))
                yield result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
