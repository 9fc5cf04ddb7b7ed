"""What the fakes of a story share: who is connected to whom, and the hook before each command."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Phone(Protocol):
    """The PBX's end of an audio connection."""

    def sound_closed(self) -> None: ...


class Ear(Protocol):
    """The media plane's end of an audio connection."""

    def pbx_connected(self, leg: Phone) -> None: ...

    def pbx_hung_up(self) -> None: ...

    def caller_sends(self, frames: bool) -> None: ...


async def _nothing(_command: str) -> None:
    return None


@dataclass
class FakeWorld:
    """`before` is called before each command ("leg.ring", "node.open", …): a test may fail, delay or count it there.
    `invited`: who waits for the PBX's audio, by the token of the address."""

    before: Callable[[str], Awaitable[None]] = _nothing
    invited: dict[str, Ear] = field(default_factory=dict)

    async def command(self, name: str) -> None:
        """Other tasks run once, as at any await that reaches outside."""
        await asyncio.sleep(0)
        await self.before(name)


async def until_none(queue: "asyncio.Queue[Item | None]") -> AsyncIterator[Item]:
    while (item := await queue.get()) is not None:
        yield item


async def first_of(one: asyncio.Event, other: asyncio.Event) -> None:
    tasks = [asyncio.create_task(one.wait()), asyncio.create_task(other.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def within(event: asyncio.Event, seconds: float | None) -> bool:
    """Whether it was set within that time; None: however long it takes."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
