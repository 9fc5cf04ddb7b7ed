"""A scripted AMI server on loopback: what Asterisk's manager says, and whatever else a client has to live through.

Left alone it is a small, well-behaved Asterisk 22: it lets its one user in, keeps variables and channels, and answers in Asterisk's own
words. A script changes any answer; bytes can be sent as they are, cut anywhere; it falls silent, hangs up, refuses. It plays no calls:
what happens to a channel is for the test to say. No tasks, no threads, no clock: it works under a loop whose time jumps, too.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

GREETING = b"Asterisk Call Manager/11.0.0\r\n"

Headers = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class AmiAction:
    """One action as it arrived: on which connection (1 is the first), its headers in order."""

    name: str
    connection: int
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    """Not in the repr: a Login holds the secret."""

    def __getitem__(self, header: str) -> str:
        """The first value of that header in any case, "" when there is none."""
        return next((value for name, value in self.headers if name.lower() == header.lower()), "")


@dataclass(slots=True)
class AmiChannel:
    """A channel as Status and events tell of it. `state` is ChannelState: 4 rings, 6 is up. `hangs_up_at`: its absolute time limit, in
    seconds since the epoch, 0 for none."""

    name: str
    unique_id: str
    context: str = "roomline-park"
    state: int = 4
    variables: dict[str, str] = field(default_factory=dict)
    bridge: str = ""
    application: str = ""
    hangs_up_at: int = 0

    @property
    def headers(self) -> dict[str, object]:
        """The headers every event of a channel has (transcripts of Asterisk 22.10)."""
        return {
            "Channel": self.name,
            "ChannelState": self.state,
            "ChannelStateDesc": "Up" if self.state == 6 else "Ring",
            "CallerIDNum": "+15550123",
            "CallerIDName": "Probe",
            "ConnectedLineNum": "<unknown>",
            "ConnectedLineName": "<unknown>",
            "Language": "en",
            "AccountCode": "",
            "Context": self.context,
            "Exten": "s",
            "Priority": 1,
            "Uniqueid": self.unique_id,
            "Linkedid": self.unique_id,
        }


Script = Callable[[AmiAction], bytes | None]
"""What an action is answered with, as bytes; None is silence."""


def message(headers: Headers) -> bytes:
    """One AMI message. Headers are written as they are: hostile ones may hold anything."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("utf-8", "surrogateescape") + b"\r\n"


def success(action: AmiAction, text: str, headers: Headers | None = None) -> bytes:
    return message({"Response": "Success", "ActionID": action["ActionID"], "Message": text, **(headers or {})})


def failure(action: AmiAction, text: str) -> bytes:
    return message({"Response": "Error", "ActionID": action["ActionID"], "Message": text})


def silence(_action: AmiAction) -> None:
    """A script that never answers."""


class AmiServer:
    """`async with AmiServer(secret) as server`: listens on 127.0.0.1, on a port of its own; gone with all its connections at the end."""

    def __init__(self, secret: str, user: str = "roomline", greeting: bytes = GREETING) -> None:
        self.user, self.secret, self.greeting = user, secret, greeting
        self.variables: dict[str, str] = {}
        """Global variables."""
        self.channels: dict[str, AmiChannel] = {}
        """By name."""
        self.actions: list[AmiAction] = []
        """All that arrived, in order, whether answered or not."""
        self.connected_at: list[float] = []
        """When each connection came, in the loop's time."""
        self.mute = False
        """Reads and answers nothing, as a stopped Asterisk or a half-open connection."""
        self.turns_away = False
        """Closes each new connection at once."""
        self.refuses_login = False
        self._scripts: dict[str, Script] = {}
        self._open: list[_Connection] = []
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.cut()
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

    # What the test says

    def script(self, action: str, answer: Script) -> None:
        """Answer every action of this name so from now on."""
        self._scripts[action.lower()] = answer

    def well_behaved(self, action: AmiAction) -> bytes | None:
        """The answer without a script; a script may call it."""
        match action.name.lower():
            case "login":
                return self._login(action)
            case "ping":
                return message({"Response": "Success", "ActionID": action["ActionID"], "Ping": "Pong", "Timestamp": "1795328054.225499"})
            case "getvar" | "setvar":
                return self._variable(action)
            case "status":
                return self._status(action)
            case "redirect" | "hangup" | "pjsiphangup" | "playdtmf" | "absolutetimeout":
                return self._on_channel(action)
            case name:
                return failure(action, f"Invalid/unknown command: {name}. Use Action: ListCommands to show available commands.")

    def send(self, data: bytes) -> None:
        """These bytes to every connection, in one write."""
        for connection in self._open:
            connection.write(data)

    async def send_pieces(self, data: bytes, cuts: Iterable[int]) -> None:
        """These bytes cut before each of these positions; each piece is read before the next is sent."""
        start = 0
        for end in [*sorted(cuts), len(data)]:
            if end > start:
                self.send(data[start:end])
                # Loopback delivers at once; the reader, on the same loop, has its turn before we are back.
                for _ in range(3):
                    await asyncio.sleep(0)
                start = end

    def event(self, name: str, headers: Headers | None = None) -> None:
        self.send(message({"Event": name, "Privilege": "call,all", **(headers or {})}))

    def channel_event(self, channel: AmiChannel, name: str, headers: Headers | None = None) -> None:
        """An event of a channel, with the headers all of those have."""
        self.event(name, {**channel.headers, **(headers or {})})

    def user_event(self, channel: AmiChannel, name: str, headers: Headers | None = None) -> None:
        """What `UserEvent(name,…)` in a dialplan makes."""
        self.channel_event(channel, "UserEvent", {"UserEvent": name, **(headers or {})})

    def cut(self) -> None:
        """End all connections now, as a killed Asterisk does."""
        for connection in list(self._open):
            connection.abort()

    def end_connection(self, number: int) -> None:
        """This one of them (1 is the first)."""
        for connection in list(self._open):
            if connection.number == number:
                connection.abort()

    # What the test asks

    def named(self, *names: str) -> list[AmiAction]:
        """The actions of these names so far."""
        return [action for action in self.actions if action.name in names]

    async def until(self, true: Callable[[], object], timeout: float = 30.0) -> None:
        """Returns when this is true, looking after each action, connection and end of one. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while not true():
                self._changed.clear()
                await self._changed.wait()

    # What connections report

    def opened(self, connection: "_Connection") -> int:
        """A new connection; returns its number."""
        self.connected_at.append(asyncio.get_running_loop().time())
        self._open.append(connection)
        self._changed.set()
        return len(self.connected_at)

    def closed(self, connection: "_Connection") -> None:
        if connection in self._open:
            self._open.remove(connection)
        self._changed.set()

    def received(self, action: AmiAction) -> bytes | None:
        self.actions.append(action)
        self._changed.set()
        if self.mute:
            return None
        return self._scripts.get(action.name.lower(), self.well_behaved)(action)

    # Answers in Asterisk's words (strings of 22.10.1)

    def _login(self, action: AmiAction) -> bytes:
        if self.refuses_login or (action["Username"], action["Secret"]) != (self.user, self.secret):
            return failure(action, "Authentication failed")
        booted = {"Event": "FullyBooted", "Privilege": "system,all", "Uptime": 858, "LastReload": 858, "Status": "Fully Booted"}
        return success(action, "Authentication accepted") + message(booted)

    def _variable(self, action: AmiAction) -> bytes:
        variables = self.variables
        if action["Channel"]:
            channel = self.channels.get(action["Channel"])
            if channel is None:
                return failure(action, "No such channel")
            variables = channel.variables
        name = action["Variable"]
        if action.name.lower() == "setvar":
            variables[name] = action["Value"]
            return success(action, "Variable Set")
        answer = {"Response": "Success", "ActionID": action["ActionID"], "Variable": name, "Value": variables.get(name, "")}
        return message(answer)

    def _status(self, action: AmiAction) -> bytes:
        number = {"ActionID": action["ActionID"]}
        answer = success(action, "Channel status will follow", {"EventList": "start"})
        for channel in self.channels.values():
            facts = {"TimeToHangup": channel.hangs_up_at, "BridgeID": channel.bridge, "Application": channel.application}
            kind = channel.name.partition("/")[0]
            answer += message({"Event": "Status", "Privilege": "Call", **channel.headers, "Type": kind, **facts, **number})
        items = len(self.channels)
        return answer + message({"Event": "StatusComplete", **number, "EventList": "Complete", "ListItems": items, "Items": items})

    def _on_channel(self, action: AmiAction) -> bytes:
        name, channel = action.name.lower(), self.channels.get(action["Channel"])
        if channel is None:
            gone = {"redirect": f"Channel does not exist: {action['Channel']}", "playdtmf": "Channel not found"}
            return failure(action, gone.get(name, "No such channel"))
        match name:
            case "redirect":
                channel.context = action["Context"]
                return success(action, "Redirect successful")
            case "playdtmf":
                return success(action, "DTMF successfully queued")
            case "absolutetimeout" if action["Timeout"] == "0":
                return failure(action, "No timeout specified")
            case "absolutetimeout":
                return success(action, "Timeout Set")
            case _:
                del self.channels[channel.name]
                return success(action, "Channel Hungup")


class _Connection(asyncio.Protocol):
    """One client: greets, cuts what arrives into actions, writes what the server says."""

    def __init__(self, server: AmiServer) -> None:
        self._server = server
        self._bytes = b""
        self._playing = False
        self.number = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  (for the type checker: a TCP server has no other)
        self._transport = transport
        self.number = self._server.opened(self)
        if self._server.turns_away:
            self.abort()
        elif not self._server.mute:
            self.write(self._server.greeting)

    def data_received(self, data: bytes) -> None:
        self._bytes += data
        self._read()

    def _read(self) -> None:
        """Nothing while a digit sounds: Asterisk's manager plays it itself, and answers then (manager.c, measured on 22.10)."""
        while not self._playing and b"\r\n\r\n" in self._bytes:
            block, _, self._bytes = self._bytes.partition(b"\r\n\r\n")
            pairs = (line.partition(":") for line in block.decode("utf-8", "replace").split("\r\n"))
            headers = tuple((name, value.removeprefix(" ")) for name, _, value in pairs)
            action = AmiAction(dict(headers).get("Action", ""), self.number, headers)
            sounds = action.name.lower() == "playdtmf" and action["Channel"] in self._server.channels
            answer = self._server.received(action)
            if answer is not None and sounds:
                self._playing = True
                asyncio.get_running_loop().call_later(int(action["Duration"]) / 1000, self._played, answer)
            elif answer is not None:
                self.write(answer)

    def _played(self, answer: bytes) -> None:
        self._playing = False
        self.write(answer)
        self._read()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._server.closed(self)

    def write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
