"""A scripted event socket server on loopback: what FreeSWITCH says, and whatever else a client has to live through.

Left alone it is a small, well-behaved FreeSWITCH 1.11, in the words of its own transcripts: it lets a password in, parks calls, runs the
applications and API commands that a controller uses, sends real audio and keeps scheduled commands. A script changes any answer; bytes
can be sent as they are, cut anywhere; it falls silent, hangs up, refuses. And it dies of what FreeSWITCH dies of.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import quote

from bridge.testing.freeswitch_calls import Calls
from bridge.testing.freeswitch_channel import SwitchChannel

GREETING = b"Content-Type: auth/request\n\n"
GOODBYE = "Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n"

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EslCommand:
    """One command as it arrived: on which connection (1 is the first), its line, its headers in order."""

    connection: int
    line: str = field(repr=False)
    """Not in the repr: `auth` holds the password."""
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """`auth`, `sendmsg`, …; of an API command its own name."""
        words = self.line.split(" ")
        return words[1] if words[0] in ("api", "bgapi") and len(words) > 1 else words[0]

    @property
    def arguments(self) -> str:
        words = 2 if self.line.startswith(("api ", "bgapi ")) else 1
        return " ".join(self.line.split(" ")[words:])

    def __getitem__(self, header: str) -> str:
        return next((value for name, value in self.headers if name.lower() == header.lower()), "")


Script = Callable[[EslCommand], bytes | None]
"""What a command is answered with, as bytes; None is silence."""


def reply(text: str) -> bytes:
    return f"Content-Type: command/reply\nReply-Text: {text}\n\n".encode()


def api_response(text: str) -> bytes:
    body = (text or "-ERR no reply\n").encode("utf-8", "surrogateescape")
    return f"Content-Type: api/response\nContent-Length: {len(body)}\n\n".encode() + body


def event(headers: Headers, body: str = "") -> bytes:
    """One event in plain form: values encoded as FreeSWITCH does, so that none of them makes a header."""
    lines = "".join(f"{name}: {quote(value, safe='/,()')}\n" for name, value in headers.items())
    if body:
        lines += f"Content-Length: {len(body.encode())}\n"
    text = f"{lines}\n{body}".encode()
    return f"Content-Length: {len(text)}\nContent-Type: text/event-plain\n\n".encode() + text


def silence(_command: EslCommand) -> None:
    """A script that never answers."""


class FreeSwitchServer:
    """`async with FreeSwitchServer(password) as server`: listens on 127.0.0.1, on a port of its own; gone with all it holds at the end."""

    def __init__(self, password: str, greeting: bytes = GREETING, port: int = 0) -> None:
        self.password, self.greeting = password, greeting
        self._port = port
        self.calls = Calls(self.tell, self.crash)
        self.commands: list[EslCommand] = []
        """All that arrived, in order, whether answered or not."""
        self.connected_at: list[float] = []
        self.crashed = ""
        """Why the whole process has ended."""
        self.mute = False
        """Reads and answers nothing, as a stopped FreeSWITCH or a half-open connection."""
        self.turns_away = False
        """Closes each new connection at once."""
        self.delay = 0.0
        """Seconds before each answer."""
        self.torn = False
        """All that is said comes in two pieces, the first of which ends in the middle of a header."""
        self.swaps = False
        """Each other answer comes only after the one behind it; a new connection has none of that."""
        self._scripts: dict[str, Script] = {}
        self._open: list[_Connection] = []
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), "127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.restart()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    @property
    def port(self) -> int:
        if self._server is None:
            raise RuntimeError("the server does not listen yet")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def open_connections(self) -> int:
        return len(self._open)

    @property
    def listened_for(self) -> list[str]:
        """The channels, by their ids, whose events any client has asked for by a filter."""
        return [value for connection in self._open for name, value in connection.filters if name == "Unique-ID"]

    @property
    def channels(self) -> Mapping[str, SwitchChannel]:
        return self.calls.channels

    # What the test says

    def script(self, name: str, answer: Script | None) -> None:
        """Answer every command of this name so from now on; None: as FreeSWITCH does."""
        if answer is None:
            self._scripts.pop(name, None)
        else:
            self._scripts[name] = answer

    def send(self, data: bytes) -> None:
        """These bytes to every connection, in one write."""
        for connection in self._open:
            connection.write(data)

    async def send_pieces(self, data: bytes, cuts: Iterable[int]) -> None:
        """These bytes cut before each of these positions, each piece on its own."""
        start = 0
        for end in [*sorted(cuts), len(data)]:
            if end > start:
                self.send(data[start:end])
                await asyncio.sleep(0.01)
                start = end

    def cut(self) -> None:
        """End all connections now; calls go on."""
        for connection in list(self._open):
            connection.abort()

    def freeze(self) -> None:
        """As a stopped process: its connections stay up, nothing is read or said, and what comes due is late."""
        self.calls.freeze()
        for connection in self._open:
            connection.freeze()

    def thaw(self) -> None:
        self.calls.thaw()
        for connection in list(self._open):
            connection.thaw()

    def restart(self) -> None:
        """As a killed FreeSWITCH: no connection, no call, nothing scheduled, no variable is left."""
        self.cut()
        self.calls.forget()

    # What the test asks

    def named(self, *names: str) -> list[EslCommand]:
        return [command for command in self.commands if command.name in names]

    async def until(self, true: Callable[[], object], timeout: float = 10.0) -> None:
        """Returns when this is true, looking after each command, connection and end of one. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while not true():
                self._changed.clear()
                await self._changed.wait()

    # What channels and connections report

    def tell(self, name: str, headers: Headers, body: str = "") -> None:
        told = {"Event-Name": name, "Core-UUID": "32a5b559-e7a3-4061-9f88-92ab6785dfba", **headers}
        for connection in self._open:
            if not self.mute and connection.wants(told):
                connection.write(event(told, body))

    def crash(self, why: str) -> None:
        self.crashed = why
        self.restart()

    def opened(self, connection: "_Connection") -> int:
        self.connected_at.append(asyncio.get_running_loop().time())
        self._open.append(connection)
        self._changed.set()
        return len(self.connected_at)

    def closed(self, connection: "_Connection") -> None:
        if connection in self._open:
            self._open.remove(connection)
        self._changed.set()

    def received(self, command: EslCommand, connection: "_Connection") -> bytes | None:
        self.commands.append(command)
        self._changed.set()
        if self.mute:
            return None
        script = self._scripts.get(command.name)
        return script(command) if script is not None else self.well_behaved(command, connection)

    # Answers in FreeSWITCH's words

    def well_behaved(self, command: EslCommand, connection: "_Connection") -> bytes:
        if command.line.startswith("auth "):
            return self._login(command, connection)
        answer = b""
        if connection.logged_in:
            match command.line.split(" ")[0]:
                case "api":
                    answer = api_response(self.calls.api(command.name, command.arguments))
                case "bgapi":
                    self.calls.begin(command["Job-UUID"], command.name, command.arguments)
                    job = command["Job-UUID"]
                    answer = f"Content-Type: command/reply\nReply-Text: +OK Job-UUID: {job}\nJob-UUID: {job}\n\n\n\n".encode()
                case "sendmsg":
                    answer = reply(self.calls.message(command.arguments, dict(command.headers)))
                case "event":
                    connection.subscribed = set(command.line.split(" ")[2:])
                    answer = reply("+OK event listener enabled plain")
                case "filter":
                    answer = reply(connection.filter(command.arguments))
        return answer or reply("-ERR command not found")

    def _login(self, command: EslCommand, connection: "_Connection") -> bytes:
        connection.logged_in = command.line == f"auth {self.password}"
        if connection.logged_in:
            return reply("+OK accepted")
        return reply("-ERR invalid") + f"Content-Type: text/disconnect-notice\nContent-Length: {len(GOODBYE)}\n\n{GOODBYE}".encode()


class _Connection(asyncio.Protocol):
    """One client: greets, cuts what arrives into commands, writes what the server says."""

    def __init__(self, server: FreeSwitchServer) -> None:
        self._server = server
        self._bytes = b""
        self._number = 0
        self._transport: asyncio.Transport | None = None
        self._busy_until = 0.0
        self._held = b""
        self._rest: deque[bytes] = deque()
        self.logged_in = False
        self.subscribed: set[str] = set()
        self.filters: list[tuple[str, str]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  (for the type checker: a TCP server has no other)
        self._transport = transport
        self._number = self._server.opened(self)
        self._server.swaps = False
        if self._server.turns_away:
            self.abort()
        elif self._server.calls.frozen:
            self.freeze()
            self._server.calls.when_awake(self._greet)
        else:
            self._greet()

    def _greet(self) -> None:
        if not self._server.mute:
            self.write(self._server.greeting)

    def freeze(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def thaw(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        *blocks, self._bytes = (self._bytes + data).split(b"\n\n")
        for block in blocks:
            line, *rest = block.decode("utf-8", "replace").strip("\n").split("\n")
            headers = tuple((name, value.strip(" ")) for name, _, value in (each.partition(":") for each in rest))
            answer = self._server.received(EslCommand(self._number, line, headers), self)
            if answer is not None:
                self._in_order_or_not(answer)

    def _in_order_or_not(self, answer: bytes) -> None:
        held, self._held = self._held, b""
        if not held and self._server.swaps and self.logged_in:
            self._held = answer
            return
        self._answer(answer)
        if held:
            self._answer(held)

    def _answer(self, answer: bytes) -> None:
        """As late as the server is slow, and never before the one before."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if not self._server.delay and self._busy_until < now:
            self.write(answer)
            return
        self._busy_until = max(now + self._server.delay, self._busy_until + 1e-6)
        loop.call_at(self._busy_until, self.write, answer)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._server.closed(self)

    def filter(self, arguments: str) -> str:
        name, _, value = arguments.partition(" ")
        if name == "delete":
            name, _, value = value.partition(" ")
            self.filters = [each for each in self.filters if each != (name, value)]
            return f"+OK filter deleted. [{name}][{value}]"
        self.filters.append((name, value))
        return f"+OK filter added. [{name}]=[{value}]"

    def wants(self, headers: Headers) -> bool:
        """Of the events that are subscribed to, those that one filter at least lets through (mod_event_socket.c)."""
        if headers["Event-Name"] not in self.subscribed:
            return False
        return not self.filters or any(headers.get(name, "").lower() == value.lower() for name, value in self.filters if name in headers)

    def write(self, data: bytes) -> None:
        if self._server.torn or self._rest:
            middle = data.find(b":") + 3
            self._rest += (data[:middle], data[middle:])
            if len(self._rest) == 2:
                self._write_on()
        else:
            self._write(data)

    def _write_on(self) -> None:
        """One piece after the other, each in a segment of its own."""
        self._write(self._rest[0])
        asyncio.get_running_loop().call_later(0.002, self._written)

    def _written(self) -> None:
        self._rest.popleft()
        if self._rest:
            self._write_on()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
