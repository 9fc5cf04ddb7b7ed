"""The calls of the scripted FreeSWITCH, and the API commands by which a controller moves them, in FreeSWITCH's own words."""

import asyncio
import itertools
import json
import math
import re
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final, Protocol
from urllib.parse import quote
from xml.etree.ElementTree import fromstring

from bridge.shipped import shipped_folders
from bridge.testing.freeswitch_channel import FarEnd, SwitchChannel
from bridge.testing.freeswitch_dialplan import Dialplan

VERSION = "FreeSWITCH Version 1.11.3-dev+git~20260821T141014Z~cc93a683ca~64bit (git cc93a68 2026-08-21 14:10:14Z 64bit)\n"
NO_CHANNEL = "-ERR No such channel!\n"
PAYLOADS = {"PCMU": 0, "PCMA": 8, "G722": 9, "opus": 111}


_INNERMOST: Final = re.compile(r"\$\{([^{}]*)\}")
_CALL: Final = re.compile(r"(\w+)\((.*)\)")


@dataclass(frozen=True, slots=True)
class Callee:
    """What becomes of who is called: a `status` that refuses, or an answer after so many seconds (None: it rings), and its end."""

    status: str = ""
    answers_after: float | None = 0.02
    leaves_after: float | None = None


class Tell(Protocol):
    """Has an event told to whom it concerns."""

    def __call__(self, name: str, headers: Mapping[str, str], body: str = "") -> None: ...


class Calls:
    """All calls, what is scheduled for them, and the global variables."""

    def __init__(self, tell: Tell, crash: Callable[[str], None]) -> None:
        self.tell = tell
        self.crash = crash
        self.variables: dict[str, str] = {}
        """Global ones."""
        self.channels: dict[str, SwitchChannel] = {}
        """By Unique-ID; gone when they have ended."""
        self.callee: Callable[[str], Callee] = lambda number: Callee()
        """What becomes of who is called, by their number."""
        self.gives: Mapping[str, str] = {}
        """Channel variables that the operator's gateway gives whom it calls."""
        self.dialplan: Dialplan | None = None
        """What carries a call on that is sent to an extension; without one it stays there."""
        self.frozen = False
        self.refer = ("202", "200")
        """The answer to a REFER, and the one that its target gave; empty: none yet."""
        self.keeps_who_was_refused = False
        """Whether a caller is still there whose transfer the target has refused: with no FreeSWITCH yet (up to 1.11.2)."""
        self._scheduled: dict[int, tuple[str, asyncio.TimerHandle, str]] = {}
        self._task_ids = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._at_waking: list[Callable[[], object]] = []

    def freeze(self) -> None:
        """Stopped: what comes and what comes due waits."""
        self.frozen = True

    def thaw(self) -> None:
        self.frozen = False
        waiting, self._at_waking = self._at_waking, []
        for each in waiting:
            each()

    def when_awake(self, act: Callable[[], object]) -> None:
        """Now, or as soon as it runs again."""
        if self.frozen:
            self._at_waking.append(act)
        else:
            act()

    @property
    def scheduled(self) -> list[tuple[str, str]]:
        """Group and command of what is scheduled."""
        return [(group, command) for group, _, command in self._scheduled.values()]

    def seconds_left(self, group: str) -> float:
        """Until the first of this group comes due."""
        now = asyncio.get_running_loop().time()
        return min(timer.when() - now for one, timer, _ in self._scheduled.values() if one == group)

    def channel(self, **changes: str) -> SwitchChannel:
        """A call as the dialplan has it, not parked yet; `changes` are channel variables, or `destination`."""
        variables = {
            "sip_from_user": "+15550123",
            "sip_from_host": "sip.example.net",
            "sip_from_display": "Ada 😀",
            "sip_from_tag": "tag-1",
            "sip_call_id": f"call-{len(self.channels)}@example.net",
            "sip_network_ip": "203.0.113.7",
            "sofia_profile_name": "external",
            "offers": "PCMU,PCMA",
            "max_forwards": "70",
            "roomline_fallback": "9000 XML default",
        } | changes
        channel = SwitchChannel(self, str(uuid.uuid4()), variables.pop("destination", "+15550100"), variables=variables)
        offered = variables["offers"].split(",")
        numbers = " ".join(str(PAYLOADS[codec]) for codec in offered)
        maps = "".join(f"a=rtpmap:{PAYLOADS[codec]} {codec}/{48000 if codec == 'opus' else 8000}\r\n" for codec in offered)
        variables.setdefault("switch_r_sdp", f"v=0\r\nm=audio 40000 RTP/AVP {numbers} 101\r\n{maps}a=rtpmap:101 telephone-event/8000\r\n")
        self.channels[channel.unique_id] = channel
        return channel

    def incoming(self, context: str, far_end: FarEnd, variables: Mapping[str, str]) -> SwitchChannel:
        """A caller whose INVITE has come in here: the dialplan has it from now on."""
        channel = self.channel(**variables)
        # What the helper above has made up for calls that have no operator's dialplan.
        del channel.variables["roomline_fallback"]
        channel.context, channel.far_end = context, far_end
        far_end.came_in(channel)
        channel.tell("CHANNEL_CREATE")
        self.route(channel)
        return channel

    def route(self, channel: SwitchChannel) -> None:
        if self.dialplan is None:
            return
        actions = self.dialplan.actions(channel.context, channel.destination, lambda text: self._expanded(channel, text))
        if actions:
            channel.run((application, self._expanded(channel, data)) for application, data in actions)
        else:
            channel.hang_up("NO_ROUTE_DESTINATION")

    def _expanded(self, channel: SwitchChannel, text: str) -> str:
        """`${variable}` and `${command(arguments)}` from within; what a value itself says of that sort means nothing."""

        def value(found: re.Match[str]) -> str:
            name = found[1]
            if call := _CALL.fullmatch(name):
                said = self.api(call[1], call[2].replace("\0", "${")).rstrip("\n")
            elif name == "uuid":
                said = channel.unique_id
            else:
                said = channel.variables.get(name, self.variables.get(name, ""))
            return said.replace("${", "\0")

        while (put_in := _INNERMOST.sub(value, text)) != text:
            text = put_in
        return text.replace("\0", "${")

    def call(self, **changes: str) -> SwitchChannel:
        """A caller comes in and is parked, under the dialplan's lease."""
        channel = self.channel(**changes)
        channel.variables |= _set_by_the_dialplan()
        fallback = channel.variables.get("roomline_fallback", "")
        self._schedule(3.0, f"roomline-{channel.unique_id}", f"uuid_transfer {channel.unique_id} {fallback}")
        channel.park()
        return channel

    def gone(self, channel: SwitchChannel) -> None:
        self.channels.pop(channel.unique_id, None)

    def forget(self) -> None:
        """All of it is gone, and nobody is told."""
        for channel in self.channels.values():
            channel.go_silent()
            channel.ended = "gone with its FreeSWITCH"
        for _, timer, _ in self._scheduled.values():
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        self.channels.clear()
        self._at_waking.clear()
        self._scheduled.clear()
        self.variables.clear()

    def api(self, name: str, arguments: str) -> str:
        """What an API command writes."""
        if name.startswith("uuid_"):
            unique_id, _, rest = arguments.partition(" ")
            channel = self.channels.get(unique_id)
            return NO_CHANNEL if channel is None else self._on_channel(name, channel, rest)
        commands: dict[str, Callable[[str], str]] = {
            "version": lambda _: VERSION,
            "echo": lambda text: text,
            "global_setvar": self._set_global,
            "global_getvar": lambda key: self.variables.get(key, ""),
            "show": self._show,
            "sched_api": self._sched_api,
            "sched_del": self._sched_del,
        }
        command = commands.get(name)
        return f"-ERR {name} Command not found!\n" if command is None else command(arguments)

    def message(self, unique_id: str, headers: Mapping[str, str]) -> str:
        """What `sendmsg` is answered; what it asks for is done by the channel, a moment later."""
        channel = self.channels.get(unique_id)
        if channel is None:
            return f"-ERR invalid session id [{unique_id}]"
        if headers["call-command"] == "unicast":
            self._start(channel.start_unicast(headers["remote-ip"], int(headers["remote-port"])))
        else:
            asyncio.get_running_loop().call_soon(channel.execute, headers["execute-app-name"], headers.get("execute-app-arg", ""))
        return "+OK"

    def begin(self, job: str, name: str, arguments: str) -> None:
        """A `bgapi` command; its end is an event."""
        if name == "originate":
            self._start(self._originate(job, arguments))

    def _on_channel(self, name: str, channel: SwitchChannel, rest: str) -> str:
        answer = "+OK\n"
        match name:
            case "uuid_dump":
                told = channel.facts | {f"variable_{key}": value for key, value in channel.variables.items()}
                answer = "".join(f"{key}: {quote(value, safe='/,()')}\n" for key, value in told.items()) + "\n"
            case "uuid_getvar":
                answer = channel.variables.get(rest, "_undef_")
            case "uuid_setvar":
                _set(channel, *rest.partition(" ")[::2])
            case "uuid_setvar_multi":
                for pair in rest.split(";"):
                    _set(channel, *pair.partition("=")[::2])
            case "uuid_transfer":
                channel.transfer(*rest.split(" "))
            case "uuid_kill":
                channel.hang_up(rest or "NORMAL_CLEARING")
            case "uuid_send_dtmf":
                channel.send_digits(rest.partition("@")[0])
            case "uuid_broadcast":
                channel.play(rest.partition(" ")[0])
            case "uuid_set_media_stats":
                channel.packets += channel.sends
                channel.variables["rtp_audio_in_packet_count"] = str(channel.packets)
            case "uuid_deflect":
                answer = self._deflect(channel, rest)
            case _:
                answer = f"-ERR {name} Command not found!\n"
        return answer

    def _deflect(self, channel: SwitchChannel, target: str) -> str:
        channel.said.append(f"refer {target}")
        status, at_target = self.refer if channel.far_end is None else channel.far_end.referred(target)
        _set(channel, "sip_refer_status_code", status)
        _set(channel, "sip_refer_target_status_code", at_target)
        if at_target and int(at_target) >= 300 and not self.keeps_who_was_refused:
            channel.drop_dialog()
        if channel.variables.get("sip_refer_continue_after_reply") == "true":
            return "+OK:\n"
        channel.hang_up("BLIND_TRANSFER")
        return "+OK:no reply\n"

    async def _originate(self, job: str, arguments: str) -> None:
        options, _, where = arguments.removeprefix("{").partition("}")
        told = {match[1]: match[2] for match in re.finditer(r"(\w[\w-]*)='([^']*)'(?:,|$)", options)}
        target, _, _, context, *_ = where.split(" ")
        if target.startswith("sofia/gateway/gone/"):
            self.tell("BACKGROUND_JOB", {"Job-UUID": job}, "-ERR INVALID_GATEWAY\n")
            return
        number = target.rpartition("/")[2]
        channel = SwitchChannel(self, told["origination_uuid"], number, context="default", state="CS_INIT", direction="outbound")
        channel.variables |= {"offers": "PCMU,PCMA", **self.gives} | {key: value for key, value in told.items() if key != "api_on_answer"}
        self.channels[channel.unique_id] = channel
        channel.tell("CHANNEL_CREATE")
        callee, limit = self.callee(number), float(told["originate_timeout"])
        await asyncio.sleep(limit if callee.answers_after is None else min(callee.answers_after, limit))
        if channel.ended:
            return
        if callee.status:
            channel.variables |= {"sip_term_status": callee.status, "sip_hangup_disposition": "recv_refuse"}
            cause = "USER_BUSY"
        else:
            cause = "NO_ANSWER" if callee.answers_after is None else ""
        if cause:
            channel.hang_up(cause)
            self.tell("BACKGROUND_JOB", {"Job-UUID": job}, f"-ERR {cause}\n")
            return
        channel.answer()
        name, _, rest = told["api_on_answer"].partition(" ")
        self.api(name, rest)
        channel.context, channel.state, channel.dialplan = context, "CS_EXECUTE", "inline"
        channel.park()
        self.tell("BACKGROUND_JOB", {"Job-UUID": job}, f"+OK {channel.unique_id}\n")
        if callee.leaves_after is not None:
            await asyncio.sleep(callee.leaves_after)
            channel.caller_hangs_up()

    def _set_global(self, arguments: str) -> str:
        key, _, value = arguments.partition("=")
        self.variables[key] = value
        return "+OK"

    def _show(self, arguments: str) -> str:
        if arguments.startswith("tasks"):
            rows = [{"task_id": str(number), "task_group": group} for number, (group, _, _) in self._scheduled.items()]
        else:
            rows = [
                {"uuid": each.unique_id, "name": each.name, "context": each.context, "application": each.application}
                for each in self.channels.values()
            ]
        return json.dumps({"row_count": len(rows), **({"rows": rows} if rows else {})})

    def _sched_api(self, arguments: str) -> str:
        delay, group, command = arguments.split(" ", 2)
        return f"+OK Added: {self._schedule(float(delay), group, command)}\n"

    def _schedule(self, seconds: float, group: str, command: str) -> int:
        """FreeSWITCH counts whole seconds, the running one among them."""
        number = next(self._task_ids)
        now = time.time()
        timer = asyncio.get_running_loop().call_later(math.floor(now) + seconds - now, self._due, number)
        self._scheduled[number] = group, timer, command
        return number

    def _due(self, number: int) -> None:
        if self.frozen:
            self.when_awake(lambda: self._due(number))
            return
        _, _, command = self._scheduled.pop(number)
        name, _, arguments = command.partition(" ")
        self.api(name, arguments)

    def _sched_del(self, which: str) -> str:
        numbers = [number for number, (group, _, _) in self._scheduled.items() if which in (group, str(number))]
        for number in numbers:
            self._scheduled.pop(number)[1].cancel()
        return f"+OK Deleted: {len(numbers)}\n"

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@cache
def _set_by_the_dialplan() -> Mapping[str, str]:
    """The variables that roomline.xml, as it ships, gives every call alike."""
    file = fromstring((shipped_folders()["freeswitch"] / "roomline.xml").read_text())  # noqa: S314  (a file of ours)
    said = [action.get("data", "") for action in file.iter("action") if action.get("application") == "set"]
    return dict(data.split("=", 1) for data in said if "$" not in data)


def _set(channel: SwitchChannel, name: str, value: str) -> None:
    if value:
        channel.variables[name] = value
    else:
        channel.variables.pop(name, None)
