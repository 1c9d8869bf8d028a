"""Lists that fetch their pages as they are read."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")

FetchPage = Callable[[str], Awaitable[tuple[Sequence[Item], str]]]


async def pages(fetch: FetchPage[Item]) -> AsyncGenerator[Item, None]:
    """All items. `fetch` takes a page token ("" at first) and returns the page and the next token ("" at the end)."""
    token = ""
    while True:
        items, token = await fetch(token)
        for item in items:
            yield item
        if not token:
            return
