"""The AMI connection: panoramisk's protocol, guarded.

panoramisk 1.4 frames, numbers and matches actions; everything that it was seen to do badly is put right here and nowhere else, each
with a test of its own: what leaves us cannot hold a second action, what arrives is framed as bytes and decoded afterwards, an
action has a deadline and is never sent twice, the other side's silence is noticed, events come in order through one bounded queue,
and reconnecting backs off. Knows no channels and no contexts; what events mean is `pbx.py`'s.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from panoramisk.actions import Action
from panoramisk.ami_protocol import AMIProtocol
from panoramisk.message import Message

from bridge.errors import LocalProtocolError, RemoteProtocolError, Unavailable
from bridge.pbx.asterisk.options import WireOptions

log = structlog.get_logger(__name__)

LINE_LIMIT = 1000
"""Bytes of one line we send: Asterisk drops what is over 1024 (manager.c, measured)."""

MESSAGE_LIMIT = 1 << 20
"""Bytes of one message we accept before we call it garbage."""

BANNER = b"Asterisk Call Manager/"

Headers = Mapping[str, str | int | Sequence[str]]
"""A header with several values stands there once for each."""

_FORBIDDEN = frozenset("\r\n\0")


@dataclass(frozen=True, slots=True)
class Answer:
    """What an action was answered: `message` says why not, `value` is what Getvar asked for."""

    ok: bool
    message: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class Up:
    """Logged in. Events from here on are this connection's."""

    version: str


@dataclass(frozen=True, slots=True)
class Down:
    """The connection is gone; `reason` is a sentence."""

    reason: str


class Event:
    """One AMI event. A header that is not there is empty; of one that comes more than once, the last counts."""

    __slots__ = ("_message", "name")

    def __init__(self, message: Message) -> None:
        self._message = message
        self.name = self["Event"]

    def __getitem__(self, header: str) -> str:
        value: str | list[str] = self._message.get(header, "")
        return value if isinstance(value, str) else value[-1]


Item = Up | Down | Event


class GuardedProtocol(AMIProtocol):  # type: ignore[misc]  # panoramisk has no types
    """One connection. Raises nothing into the loop: a broken rule of theirs closes the connection with its reason."""

    def __init__(self) -> None:
        self.deliver: Callable[[Message], None] = _ignore
        """Takes each event, once somebody listens; raises RemoteProtocolError when there are more than anybody reads."""
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._bytes = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.encoding = "utf-8"
        # What panoramisk's own manager would be: events and the end of the connection are handed to it.
        self.factory = self

    def send(self, data: Any, as_list: bool | None = None) -> "asyncio.Future[Any]":
        """Send one action. Raises LocalProtocolError, sending nothing, when a value could be read as more than a value."""
        action = data if isinstance(data, Action) else Action(data, as_list=as_list)
        for name, value in (
            (name, each) for name, values in action.items() for each in (values if isinstance(values, list | tuple) else [values])
        ):
            line = f"{name}: {value}"
            if not _FORBIDDEN.isdisjoint(line) or ":" in name:
                raise LocalProtocolError(f"the AMI header {name!r} holds a line break or a NUL")
            try:
                size = len(line.encode())
            except UnicodeEncodeError:
                # panoramisk would log the whole action, a secret with it, and leave its waiter waiting.
                raise LocalProtocolError(f"the AMI header {name!r} holds half a character") from None
            if size > LINE_LIMIT:
                raise LocalProtocolError(f"the AMI header {name!r} is over {LINE_LIMIT} bytes long")
        if self.transport.is_closing():
            raise Unavailable("the AMI connection is closing")
        future: asyncio.Future[Any] = super().send(action, as_list=as_list)
        return future

    def forget(self, action: Action) -> None:
        """Nobody waits for this action's answer any more."""
        self.responses.pop(action.id, None)

    def data_received(self, data: bytes) -> None:
        self._bytes += data
        try:
            self._read()
        except RemoteProtocolError as error:
            self.fail(str(error))

    def _read(self) -> None:
        if self.version is None and not self._read_banner():
            return
        *blocks, rest = bytes(self._bytes).split(b"\r\n\r\n")
        if len(rest) > MESSAGE_LIMIT:
            raise RemoteProtocolError("a message without an end")
        self._bytes = bytearray(rest)
        for block in blocks:
            if self.closed:
                return
            message = read_message(block)
            if message is not None:
                self.handle_message(message)

    def _read_banner(self) -> bool:
        banner, found, rest = bytes(self._bytes).partition(b"\r\n")
        if not (banner + b"\r\n").startswith(BANNER[: len(banner)]) or len(banner) > LINE_LIMIT:
            raise RemoteProtocolError("this is no Asterisk manager: the greeting is missing")
        if not found:
            return False
        if not banner.startswith(BANNER):
            raise RemoteProtocolError("this is no Asterisk manager: the greeting is missing")
        self.version = banner[len(BANNER) :].decode("ascii", "replace").strip()
        self._bytes = bytearray(rest)
        return True

    def handle_message(self, message: Message) -> None:
        # panoramisk hands an exception of a stranger's answer to the loop, which drops the connection without a word.
        try:
            action = self.responses.get(message.id)
            if action is not None and "event" not in message and not message.success:
                action.as_list = False  # a refusal is all that comes: panoramisk would wait for a list's end
            super().handle_message(message)
        except RemoteProtocolError:
            raise
        except Exception as error:
            raise RemoteProtocolError(f"an answer that does not fit its action ({type(error).__name__})") from error

    def dispatch(self, message: Message) -> None:
        """An event that belongs to no action."""
        self.deliver(message)

    def connection_lost(self, exc: Any) -> None:
        # panoramisk calls this with a message when Asterisk announces its shutdown.
        self.fail("Asterisk is shutting down" if isinstance(exc, Message) else str(exc or "closed by Asterisk"))

    def close(self) -> None:
        self.fail("closed by us")

    def fail(self, reason: str) -> None:
        """End the connection: every waiter is told, nothing is kept to be sent again."""
        if not self.lost.done():
            self.lost.set_result(reason)
        self.closed = True
        self.transport.close()
        for action in self.responses.values():
            if not action.future.done():
                action.future.set_exception(Unavailable(f"the AMI connection is gone: {reason}"))
                action.future.exception()  # seen, even if its waiter has just given up
        self.responses.clear()


def read_message(block: bytes) -> Message | None:
    """One message, its headers decoded after framing: a character is never cut in two, and an empty last header is kept.
    A header that comes more than once is a list. None for a block that is neither event nor answer."""
    headers: dict[str, str | list[str]] = {}
    for raw in block.split(b"\r\n"):
        name, colon, value = raw.decode("utf-8", "replace").partition(":")
        if not colon or not name:
            continue
        value = value.removeprefix(" ")
        before = headers.get(name)
        if before is None:
            headers[name] = value
        elif isinstance(before, list):
            before.append(value)
        else:
            headers[name] = [before, value]
    if "Event" not in headers and "Response" not in headers:
        return None
    if any(isinstance(headers.get(name), list) for name in ("Event", "Response", "ActionID")):
        raise RemoteProtocolError("a message with two names")
    return Message(headers)


async def connect(options: WireOptions, *, events: bool = True) -> GuardedProtocol:
    """A connection that is logged in; who asks for it closes it. Raises Unavailable."""
    loop = asyncio.get_running_loop()
    place = f"{options.host}:{options.port}"
    try:
        async with asyncio.timeout(options.connect_timeout):
            _, protocol = await loop.create_connection(GuardedProtocol, options.host, options.port)
    except TimeoutError:
        raise Unavailable(f"the AMI at {place} cannot be reached within {options.connect_timeout:g} s") from None
    # A name that is no host name is a UnicodeError; of several addresses (localhost) each failure stands in the error's text.
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"the AMI at {place} cannot be reached: {getattr(error, 'strerror', None) or error}") from None
    try:
        login: Headers = {"Username": options.user, "Secret": options.secret, "Events": "on" if events else "off"}
        answer = await _send(protocol, "Login", False, options.connect_timeout, login)
        if not answer.success:
            raise Unavailable(f"the AMI at {place} refused the user {options.user!r}: look at manager.conf (secret, permit)")
    except LocalProtocolError as error:
        protocol.fail("not logged in")
        raise Unavailable(f"the login at {place} cannot be sent: {error}") from None
    except BaseException:
        protocol.fail("not logged in")
        raise
    return protocol


async def ask(protocol: GuardedProtocol, name: str, headers: Headers, timeout: float) -> Answer:
    """`Wire.action` on one connection. Raises Unavailable, LocalProtocolError."""
    return _read_answer(await _send(protocol, name, False, timeout, headers))


async def _send(protocol: GuardedProtocol, name: str, as_list: bool, timeout: float, headers: Headers) -> Any:
    # Said in each case: where panoramisk has to guess it from the answer's words, some (PlayDTMF's) make it raise.
    action = Action({"Action": name, **headers}, as_list=as_list)
    future = protocol.send(action, as_list=as_list)
    try:
        async with asyncio.timeout(timeout):
            return await future
    except TimeoutError:
        raise Unavailable(f"the AMI action {name} was not answered within {timeout:g} s") from None
    finally:
        protocol.forget(action)


def _read_answer(answer: Any) -> Answer:
    message = answer[0] if isinstance(answer, list) else answer
    return Answer(bool(message.success), str(message.get("Message", "")), str(message.get("Value", "")))


class Wire:
    """The connection that is kept: made, watched and made again until `run` is cancelled."""

    def __init__(self, options: WireOptions) -> None:
        self._options = options
        self._protocol: GuardedProtocol | None = None
        # Bounded by `_deliver`: Up and Down always fit.
        self._items: asyncio.Queue[Item] = asyncio.Queue()

    @property
    def connected(self) -> bool:
        return self._protocol is not None

    async def items(self) -> AsyncIterator[Item]:
        """Up, its events, Down, Up, …: in order, to one reader, for ever."""
        while True:
            yield await self._items.get()

    async def action(self, name: str, headers: Headers | None = None) -> Answer:
        """Send one action and wait for its answer. Raises Unavailable when there is no connection, when it breaks, or when no
        answer comes in time; LocalProtocolError when a value cannot be sent. `Response: Error` is an answer like any other."""
        return _read_answer(await self._send(name, False, headers or {}))

    async def list_action(self, name: str, headers: Headers | None = None) -> Sequence[Event]:
        """The same for an action that answers with a list of events; without the answer itself and the end mark. Refused: Unavailable."""
        answer = await self._send(name, True, headers or {})
        if not isinstance(answer, list):
            raise Unavailable(f"Asterisk refused {name}: {answer.get('Message', '')}")
        return [Event(message) for message in answer if "Response" not in message and not message.event.endswith("Complete")]

    async def _send(self, name: str, as_list: bool, headers: Headers) -> Any:
        if self._protocol is None:
            raise Unavailable("there is no AMI connection")
        return await _send(self._protocol, name, as_list, self._options.action_timeout, headers)

    async def run(self) -> None:
        """Keep the connection until cancelled."""
        wait, told, loop = self._options.shortest_wait, "", asyncio.get_running_loop()
        try:
            while True:
                try:
                    protocol = await connect(self._options)
                except Unavailable as error:
                    if str(error) != told:
                        told = str(error)
                        log.warning("no AMI connection", error=told, next_try_in=round(wait, 1))
                        self._items.put_nowait(Down(told))
                else:
                    told, since = "", loop.time()
                    reason = await self._serve(protocol)
                    # Only one that stood for longer than we waited for it was worth coming back quickly for.
                    if loop.time() - since > wait:
                        wait = self._options.shortest_wait
                    log.warning("AMI connection lost", reason=reason)
                    self._items.put_nowait(Down(reason))
                await asyncio.sleep(wait * random.uniform(0.8, 1.2))
                wait = min(wait * 2, self._options.longest_wait)
        finally:
            self._protocol = None

    async def _serve(self, protocol: GuardedProtocol) -> str:
        """Pass events on and ping, until the connection is gone; returns why."""
        self._protocol = protocol
        self._items.put_nowait(Up(protocol.version or ""))
        protocol.deliver = self._deliver
        try:
            async with asyncio.TaskGroup() as group:
                ping = group.create_task(self._ping(protocol))
                reason = await asyncio.shield(protocol.lost)
                ping.cancel()
            return reason
        finally:
            self._protocol = None
            protocol.fail("closed by us")

    def _deliver(self, message: Message) -> None:
        # Dropping single events would leave calls in a wrong state for ever; a new connection looks at each of them anew.
        if self._items.qsize() >= self._options.events_kept:
            raise RemoteProtocolError("more events than anybody reads")
        self._items.put_nowait(Event(message))

    async def _ping(self, protocol: GuardedProtocol) -> None:
        """A connection that is up but silent (half open, a stopped Asterisk) is noticed here."""
        while True:
            await asyncio.sleep(self._options.ping_interval)
            try:
                await _send(protocol, "Ping", False, self._options.ping_timeout, {})
            except Unavailable as error:
                protocol.fail(str(error))
                return


def _ignore(_message: Message) -> None:
    """Before the login there is nobody to read events."""
