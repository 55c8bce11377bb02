"""A request that meets a cloud which serves another bundle by now: asked once more, with that one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

from edge_node.models import Models
from wire.errors import IncompatibleBundle

T = TypeVar("T")


async def once_more(models: Models, ask: Callable[[], AsyncGenerator[T, None]]) -> AsyncGenerator[T, None]:
    """What `ask` gives. Where the bundle is not served any more and nothing was said yet, all of it again, once.

    What the cloud serves is then asked for anew, and trusted or not as ever. Raises what `ask` raises.
    """
    has_said = False
    try:
        async with aclosing(ask()) as said:
            async for one in said:
                has_said = True
                yield one
        return
    except IncompatibleBundle:
        models.forget()
        if has_said:
            raise
    async with aclosing(ask()) as said:
        async for one in said:
            yield one
