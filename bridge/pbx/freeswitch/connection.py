"""One connection to an event socket: greenswitch's, guarded, in a thread of its own with its own gevent hub.

greenswitch 0.0.19 connects, logs in and matches answers to commands; everything that it was seen to do badly is put right here and
nowhere else, each with a test of its own: what leaves us is one command and leaves whole, what arrives is framed as bytes and decoded
afterwards, an answer that belongs to no command ends the connection, and whatever ends it wakes everybody who waits. Deadlines
are the asyncio side's. Only plain values cross between the two sides.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import gevent
from gevent import socket
from gevent.event import AsyncResult
from gevent.event import Event as GreenEvent
from gevent.queue import Queue as GreenQueue
from greenswitch.esl import InboundESL, NotConnectedError

from bridge.errors import RemoteProtocolError, Unavailable
from bridge.pbx.freeswitch.messages import Event, Message, Reader, read_event

CLOSED: Final = "closed by FreeSWITCH"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an event socket is, and what it is told to let us in. `timeout`: seconds to connect."""

    host: str
    port: int
    password: str = field(repr=False)
    timeout: float


@dataclass(frozen=True, slots=True)
class Reply:
    """What a command was answered: the words themselves, without the line's end."""

    text: str

    @property
    def ok(self) -> bool:
        return not self.text.startswith(("-ERR", "-USAGE"))


class _Answer:
    """What greenswitch reads of a message that answers a command. `headers` are as they came."""

    def __init__(self, message: Message) -> None:
        self.headers = message.headers
        self.body = message.text
        self.data = ""


class _Waiting(AsyncResult):  # type: ignore[misc]  # gevent's extension classes have no types that mypy could subclass
    """A command that was sent; `is_api` says what kind of answer it gets."""

    def __init__(self, is_api: bool) -> None:
        super().__init__()
        self.is_api = is_api


class GuardedESL(InboundESL):  # type: ignore[misc]  # greenswitch has no types
    """Lives in one hub. Raises nothing into it: whatever goes wrong ends the connection, and `over` with it."""

    def __init__(self, place: Place, deliver: Callable[[Event], None]) -> None:
        """`deliver` takes each event; raises RemoteProtocolError when there are more than anybody reads."""
        super().__init__(place.host, place.port, place.password, timeout=place.timeout)
        self._deliver = deliver
        self._reader = Reader()
        self._message: Message | None = None
        self._to_send = GreenQueue()
        self._sender: Any = None
        self.sock: Any = None
        self.sock_file = None  # greenswitch's way to read, which is not ours
        self.over = GreenEvent()
        self.reason = ""

    def connect(self) -> None:
        """Raises Unavailable. greenswitch's own knows no IPv6, and waits for the greeting for ever, also on a connection that is gone."""
        where = f"{self.host}:{self.port}"
        try:
            self.sock = socket.create_connection((self.host, self.port), self.timeout)
        # A name that is no host name is a UnicodeError.
        except (OSError, UnicodeError) as error:
            raise Unavailable(f"the event socket at {where} cannot be reached: {getattr(error, 'strerror', None) or error}") from None
        self.sock.settimeout(None)
        if self.over.is_set():  # given up meanwhile
            self.sock.close()
            raise Unavailable(self.reason)
        self.connected = True
        self.start_event_handlers()
        self._sender = gevent.spawn(self._send_all)
        self._auth_request_event.wait()
        try:
            if not self.connected:
                raise NotConnectedError(self.reason)
            self.authenticate()
        except NotConnectedError as error:
            raise Unavailable(f"the event socket at {where} let nobody in: {error}") from None
        except ValueError:  # greenswitch's word for it
            raise Unavailable(f"the event socket at {where} refused the password: look at event_socket.conf.xml") from None

    def send(self, data: str) -> Any:
        """For greenswitch's own use, the login."""
        waiting = self.ask(data, is_api=False)
        return waiting.get()

    def ask(self, command: str, *, is_api: bool) -> _Waiting:
        """Send one command, already checked, without waiting: greenswitch's own sends as much as fits at once, and forgets the rest."""
        if not self.connected:
            raise NotConnectedError(self.reason)
        waiting = _Waiting(is_api)
        self._commands_sent.append(waiting)
        self._to_send.put_nowait((command + self._EOL * 2).encode())
        return waiting

    def _send_all(self) -> None:
        try:
            while True:
                self.sock.sendall(self._to_send.get())
        except OSError as error:
            self.fail(error.strerror or str(error))

    def receive_events(self) -> None:
        """greenswitch decodes before it frames, line by line, and dies of what it does not expect, without a word to who waits."""
        try:
            while data := self.sock.recv(1 << 16):
                for message in self._reader.receive(data):
                    if not self.connected:
                        return
                    self._message = message
                    self.handle_event(_Answer(message))
            self.fail(CLOSED)
        except RemoteProtocolError as error:
            self.fail(str(error))
        except OSError as error:
            self.fail(error.strerror or str(error))
        except Exception as error:
            self.fail(f"a fault of ours ({type(error).__name__})")

    def handle_event(self, event: _Answer) -> None:
        message = self._message
        if message is None:
            raise RemoteProtocolError("nothing was said")
        match message.kind:
            case "auth/request":
                super().handle_event(event)
            case "command/reply" | "api/response":
                self._expect(message)
                super().handle_event(event)
            case "text/event-plain":
                self._deliver(read_event(message.text))
            case "text/disconnect-notice":
                self.fail(CLOSED)
            case "text/rude-rejection":
                self.fail("this host may not come in: look at the ACL in event_socket.conf.xml")
            case _:
                pass  # log/data and the like, which nobody has asked for

    def _expect(self, message: Message) -> None:
        """Answers come in the order of the commands; one of the wrong kind shows that the two are out of step."""
        if not self._commands_sent:
            raise RemoteProtocolError("an answer to no command")
        refused = message.kind == "command/reply" and message.headers.get("Reply-Text", "").startswith("-ERR")
        if self._commands_sent[0].is_api != (message.kind == "api/response") and not refused:
            raise RemoteProtocolError("an answer that does not fit its command")
        # greenswitch takes these for granted.
        if ("Reply-Text" if message.kind == "command/reply" else "Content-Length") not in message.headers:
            raise RemoteProtocolError("an answer without words")

    def _read_socket(self, sock: Any, length: int) -> str:
        """The body, which has been framed already: greenswitch's own reads for ever from a connection that is gone."""
        del sock, length
        return "" if self._message is None else self._message.text

    def process_events(self) -> None:
        """greenswitch's loop over queued events, which looks each second; ours are delivered at once."""

    def fail(self, reason: str) -> None:
        """End the connection: every waiter is told."""
        if self.over.is_set():
            return
        self.reason, self.connected, self._run = reason, False, False
        waiting = list(self._commands_sent)
        self._commands_sent.clear()
        self.over.set()
        self._auth_request_event.set()
        for each in waiting:
            each.set_exception(NotConnectedError(reason))
        if self.sock is not None:
            self.sock.close()
        if self._sender is not None and self._sender is not gevent.getcurrent():
            self._sender.kill(block=False)


class Connection:
    """`GuardedESL` as asyncio sees it. Made and used in one event loop; `lost` is done, with the reason, when its thread has ended."""

    def __init__(self, place: Place, events_kept: int, heard: Callable[[], None]) -> None:
        """`heard` is called in the loop when there are events to be taken."""
        self._asyncio = asyncio.get_running_loop()
        self._place = place
        self._events_kept = events_kept
        self._heard = heard
        self._events: list[Event] = []
        self._lock = threading.Lock()
        self._hub_loop: Any = None
        self._esl: GuardedESL | None = None
        self._closed = False
        self.ready: asyncio.Future[None] = self._asyncio.create_future()
        """Done when logged in; Unavailable when not."""
        self.lost: asyncio.Future[str] = self._asyncio.create_future()
        # A thread that hangs in a resolver must not keep the server from ending.
        self._thread = threading.Thread(target=self._live, name="event socket", daemon=True)

    @property
    def started(self) -> bool:
        return self._thread.ident is not None

    def start(self) -> None:
        self._thread.start()

    def take(self) -> list[Event]:
        """The events since the last time."""
        with self._lock:
            events, self._events = self._events, []
        return events

    def ask(self, command: str, *, is_api: bool) -> "asyncio.Future[Reply]":
        """The answer's future; Unavailable when the connection ends before it. Who gives up leaves the answer's place in the row."""
        future: asyncio.Future[Reply] = self._asyncio.create_future()
        if not self._in_hub(self._ask, command, is_api, future):
            future.set_exception(Unavailable("the event socket connection is gone"))
        return future

    def close(self, reason: str) -> None:
        """End it; `lost` says when it has."""
        self._closed = True
        self._in_hub(self._close, reason)

    def _in_hub(self, function: Callable[..., None], *arguments: Any) -> bool:
        with self._lock:
            if self._hub_loop is None:
                return False
            self._hub_loop.run_callback_threadsafe(function, *arguments)
            return True

    # In the thread

    def _live(self) -> None:
        hub = gevent.get_hub()
        esl = self._esl = GuardedESL(self._place, self._deliver)
        with self._lock:
            self._hub_loop = hub.loop
        failed: Unavailable | None = None
        try:
            if not self._closed:
                esl.connect()
                self._tell(_settle, self.ready, None, None)
                esl.over.wait()
        except Unavailable as error:
            failed = error
        finally:
            esl.fail("closed by us")
            with self._lock:
                self._hub_loop = None
            # What was asked for until a moment ago is told that it is too late.
            gevent.sleep(0)
            hub.destroy(destroy_loop=True)
            self._tell(_settle, self.ready, None, failed or Unavailable(esl.reason))
            self._tell(_settle, self.lost, esl.reason, None)

    def _deliver(self, event: Event) -> None:
        # Dropping single events would leave calls in a wrong state for ever; a new connection looks at each of them anew.
        with self._lock:
            if len(self._events) >= self._events_kept:
                raise RemoteProtocolError("more events than anybody reads")
            self._events.append(event)
            first = len(self._events) == 1
        if first:
            self._tell(self._heard)

    def _ask(self, command: str, is_api: bool, future: "asyncio.Future[Reply]") -> None:
        """In the hub itself, where nothing may block."""
        if self._esl is None or not self._esl.connected:
            self._tell(_settle, future, None, Unavailable("the event socket connection is gone"))
            return
        self._esl.ask(command, is_api=is_api).rawlink(lambda waiting: self._answered(waiting, future))

    def _answered(self, waiting: _Waiting, future: "asyncio.Future[Reply]") -> None:
        if waiting.exception is not None:
            self._tell(_settle, future, None, Unavailable(f"the event socket connection is gone: {waiting.exception}"))
        else:
            self._tell(_settle, future, Reply(waiting.value.data.rstrip("\r\n")), None)

    def _close(self, reason: str) -> None:
        if self._esl is not None:
            self._esl.fail(reason)

    def _tell(self, function: Callable[..., None], *arguments: Any) -> None:
        try:
            self._asyncio.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            return  # the event loop is closed: nobody is left to be told


def _settle(future: "asyncio.Future[Any]", value: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
        future.exception()  # seen, even if its waiter has just given up
