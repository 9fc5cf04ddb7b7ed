"""A small AMI client for tests: logs in, asks, listens. On purpose not the one of `bridge.pbx`, which the tests are about.

What actions mean is the callers' business.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from bridge.errors import RoomlineError, Unavailable

Listener = Callable[["Message"], None]


class AmiRefused(RoomlineError):  # noqa: N818  (the PBX's answer, not our mistake)
    """The PBX answered `Response: Error`."""


@dataclass(frozen=True, slots=True)
class Message:
    """One response or event: its headers in order, names as sent."""

    headers: tuple[tuple[str, str], ...]

    def __getitem__(self, name: str) -> str:
        """The first value of that header, "" when there is none; names in any case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def event(self) -> str:
        return self["Event"]


class Ami:
    """`async with await Ami.connect(…) as ami`. One reader task; listeners are called from it, in order."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ids = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[Message]] = {}
        self._listeners: list[Listener] = []
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def connect(cls, host: str, port: int, user: str, secret: str, *, events: bool = True, timeout: float = 5.0) -> Self:
        """Raises Unavailable when nobody answers there, AmiRefused when the login is refused."""
        try:
            async with asyncio.timeout(timeout):
                reader, writer = await asyncio.open_connection(host, port, limit=1 << 20)
                ami = cls(reader, writer)
                ami._task = asyncio.create_task(ami._read(), name=f"ami {host}:{port}")
        except (OSError, TimeoutError) as error:
            raise Unavailable(f"no AMI at {host}:{port}: {error}") from error
        try:
            await ami.ask("Login", timeout=timeout, Username=user, Secret=secret, Events="on" if events else "off")
        except BaseException:
            await ami.close()
            raise
        return ami

    async def ask(self, action: str, *, variables: Iterable[tuple[str, str]] = (), timeout: float = 10.0, **fields: str) -> Message:
        """Send an action, return its response. Raises AmiRefused with the PBX's words, Unavailable without an answer in time."""
        number = fields.pop("ActionID", f"{id(self):x}-{next(self._ids)}")
        future = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            self._send({"Action": action, "ActionID": number, **fields}, variables)
            async with asyncio.timeout(timeout):
                answer: Message = await future
        except (TimeoutError, ConnectionError) as error:
            raise Unavailable(f"no answer to {action} within {timeout} s") from error
        finally:
            del self._waiting[number]
        if answer["Response"] == "Error":
            raise AmiRefused(f"{action}: {answer['Message']}")
        return answer

    async def command(self, line: str) -> list[str]:
        """What the CLI prints."""
        return (await self.ask("Command", Command=line)).all("Output")

    async def collect(self, action: str, item: str, complete: str) -> list[Message]:
        """The events named `item` that follow an action, until the one named `complete`."""
        found: list[Message] = []
        done = asyncio.get_running_loop().create_future()

        def keep(message: Message) -> None:
            if message.event == item:
                found.append(message)
            elif message.event == complete and not done.done():
                done.set_result(None)

        with self.listening(keep):
            await self.ask(action)
            async with asyncio.timeout(10):
                await done
        return found

    def add_listener(self, listener: Listener) -> None:
        """Tell it every message for as long as the connection lives. It must not wait and not raise."""
        self._listeners.append(listener)

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        self.add_listener(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    def _send(self, fields: Mapping[str, str], variables: Iterable[tuple[str, str]]) -> None:
        lines = [f"{name}: {value}" for name, value in fields.items()]
        lines += [f"Variable: {name}={value}" for name, value in variables]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError(f"a line break in an AMI action: {fields['Action']}")
        if self._task is None or self._task.done():
            raise ConnectionError("the connection is closed")
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def _read(self) -> None:
        try:
            await self._reader.readline()  # the greeting
            while True:
                block = await self._reader.readuntil(b"\r\n\r\n")
                lines = (line.partition(":") for line in block.decode(errors="replace").split("\r\n") if line)
                self._deliver(Message(tuple((name, value.removeprefix(" ")) for name, _, value in lines)))
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ConnectionError("the connection is closed"))

    def _deliver(self, message: Message) -> None:
        future = self._waiting.get(message["ActionID"]) if message["Response"] and not message.event else None
        if future is not None and not future.done():
            future.set_result(message)
        for listener in list(self._listeners):
            listener(message)
