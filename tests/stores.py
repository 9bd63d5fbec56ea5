"""A database that is open for a test, and changes of which it only matters that they are some."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from keyrelay.settings import Settings
from keyrelay.store.engine import open_store
from keyrelay.store.model import Store, Work

Result = TypeVar("Result")


def on_store(settings: Settings, work: Callable[[Store], Awaitable[Result]]) -> Result:
    async def run() -> Result:
        store = await open_store(settings)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


async def add_roles(store: Store, *names: str, then: Exception | None = None) -> None:
    async with store.change("access") as change:
        for name in names:
            await change.run("INSERT INTO role (name) VALUES ($1)", name)
        if then is not None:
            raise then


def role(name: str) -> Work[None]:
    """A transaction of one row."""

    def work() -> Work[None]:
        yield "INSERT INTO role (name) VALUES ($1)", (name,)

    return work()
