"""One FreeSWITCH: finds the calls that its dialplan has parked for us, passes on what happens to them, keeps their leases alive.

The heartbeat is a global variable (`heartbeat.py`). A controller that was away (stopped, disconnected) looks at the PBX before it says
anything to it.
"""

import asyncio
import json
import re
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import structlog

from bridge.errors import RemoteProtocolError, Superseded, Unavailable
from bridge.model.credentials import Refusal, TrunkCredentials
from bridge.model.ending import EndedBy, Ending, EndReason
from bridge.pbx.chores import Chores
from bridge.pbx.freeswitch.connection import Reply
from bridge.pbx.freeswitch.credentials import Credentials
from bridge.pbx.freeswitch.dialing import dialled
from bridge.pbx.freeswitch.facts import codec, is_outgoing, is_sip, read_caller
from bridge.pbx.freeswitch.leg import ChannelFacts, FreeSwitchLeg, Loop, means_gone
from bridge.pbx.freeswitch.messages import Event, read_event
from bridge.pbx.freeswitch.notes import read_note
from bridge.pbx.freeswitch.options import FreeSwitchOptions
from bridge.pbx.freeswitch.places import CONTEXT, FALLBACK, HEARTBEAT, NOTE, UNIQUE_ID, Place, lease_group, leased, place, to_fallback
from bridge.pbx.freeswitch.wire import NOT_OURS, Down, Up, Wire
from bridge.pbx.heartbeat import Heartbeat
from bridge.pbx.port import ControlBack, ControlLost, DialRequest, Held, Leg, PbxHealth, Resumed

log = structlog.get_logger(__name__)

AWAY: Final = 3.0
"""Seconds without a heartbeat after which we look before we command: the shortest lease is 7 (leg.py)."""

SECOND_LOOK: Final = 2.0
"""Seconds after which we look for calls once more: `show channels` reads a table that is written a moment later."""

SUBSCRIBED: Final = (
    "CHANNEL_CREATE CHANNEL_PARK CHANNEL_UNPARK CHANNEL_ANSWER CHANNEL_BRIDGE CHANNEL_HOLD CHANNEL_UNHOLD CHANNEL_HANGUP DTMF"
    " BACKGROUND_JOB CUSTOM sofia::register_attempt"
)

FORWARDS: Final = 1_000_000
"""Each transfer within the PBX counts as a forward, and a call has 70 (switch_ivr.c): ours are no forwards."""

MOST_GONE: Final = 1000
"""Calls that somebody took away, and that may come back out of their bridge."""

_STATUS: Final = re.compile(r"[1-6][0-9]{2}")
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_TASK: Final = re.compile(r"\+OK Added: ([0-9]{1,10})")


class FreeSwitchPbx:
    """Implements `pbx.port.Pbx`."""

    def __init__(self, options: FreeSwitchOptions) -> None:
        self._options = options
        self._wire = Wire(options.wire())
        self._credentials = Credentials()
        self._said_no_directory = False
        self._legs: dict[str, FreeSwitchLeg] = {}
        self._new: asyncio.Queue[Leg] = asyncio.Queue()
        self._heart = Heartbeat()
        self._beat_at = float("-inf")
        self._superseded = False
        self._control_lost = False
        # Calls that somebody has taken out of our context while they stay up: out of a bridge they come back into it.
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._chores = Chores(options.name, lambda: self._wire.connected and not self._superseded)
        self._look = asyncio.Lock()
        # The channels that are about to be made, by their id and by their job.
        self._dialled: dict[str, asyncio.Future[None]] = {}
        self._version = ""
        self._trouble = "not connected yet"

    @property
    def name(self) -> str:
        return self._options.name

    @property
    def media_host(self) -> str:
        return self._options.media_host

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._wire.run())
                group.create_task(self._read())
                group.create_task(self._beat())
                group.create_task(self._chores.run())
                await self._chores.until_stopped()
        except* Superseded:
            raise Superseded(f"a newer controller has taken {self.name} over") from None

    async def legs(self) -> AsyncIterator[Leg]:
        # One that has ended meanwhile too: it was a call, and its story writes the record.
        while True:
            yield await self._new.get()

    def keep_credentials(self, trunks: Sequence[TrunkCredentials]) -> None:
        trusted = set(self._options.trusted_users.values())
        wanted = [trunk for trunk in trunks if trunk.trunk_id not in trusted]
        self._credentials.keep(wanted)
        if wanted and not self._options.has_directory and not self._said_no_directory:
            self._said_no_directory = True
            log.error("trunks have credentials that nobody gets in by: set api.directory", pbx=self.name, trunks=len(wanted))

    def refusals(self) -> AsyncIterator[Refusal]:
        return self._credentials.refusals()

    def can_dial(self, trunk_id: str) -> bool:
        return trunk_id in self._options.outbound_gateways

    async def dial(self, request: DialRequest) -> Leg:
        found = dialled(request, self._options.outbound_gateways)
        await self.make_sure()
        facts = ChannelFacts(found.unique_id, found.caller, outgoing=True)
        leg = FreeSwitchLeg(self, facts, media_lease=self._options.media_lease, loop=Loop.COMING)
        job = str(uuid.uuid4())
        made: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._dialled[leg.id] = self._dialled[job] = made
        # Before it is asked for: its events may be here before the answer.
        self._legs[leg.id] = leg
        try:
            await self._wire.command(f"filter Unique-ID {leg.id}")
            reply = await self._wire.command(f"bgapi {found.command}", {"Job-UUID": job})
            if not reply.ok:
                raise Unavailable(f"FreeSWITCH does not call: {reply.text}")
            async with asyncio.timeout(self._options.command_timeout):
                await made
        except BaseException as error:
            self._legs.pop(leg.id, None)
            self._forget(leg.id)
            # Should it come to be all the same, it ends when they answer: nobody is there for it (`_take`).
            if isinstance(error, TimeoutError):
                raise Unavailable("FreeSWITCH does not call: it has made no channel") from None
            raise
        finally:
            del self._dialled[leg.id], self._dialled[job]
        return leg

    async def health(self) -> PbxHealth:
        connected = self._wire.connected
        return PbxHealth(connected=connected, version=self._version, detail="" if connected else self._trouble)

    # What a leg needs

    async def make_sure(self) -> None:
        """After an absence (stopped, disconnected) look at what has become of our calls before anything is said about them."""
        if self._superseded:
            raise Superseded(f"a newer controller has taken {self.name} over")
        if time.monotonic() - self._beat_at > AWAY:
            await self._look_around()

    async def api(self, command: str) -> Reply:
        return await self._wire.api(command)

    async def message(self, unique_id: str, headers: Mapping[str, str]) -> Reply:
        return await self._wire.command(f"sendmsg {unique_id}", headers)

    async def lease(self, leg: FreeSwitchLeg) -> None:
        """First the new one, then the end of the old: there is one at any moment. One after the other, or one would be forgotten, and come
        due in the middle of the call."""
        await self.make_sure()
        async with leg.leasing:
            if leg.has_ended:
                return
            before, leg.scheduled = leg.scheduled, ""
            leg.leased_at, leg.leased_for = time.monotonic(), leg.lease
            group, renewed = lease_group(leg.id), f"sched_api +{leg.leased_for} {lease_group(leg.id)} {leg.at_its_end}"
            if before:
                reply = await self._wire.api(renewed)
                await self._wire.api(f"sched_del {before}")
            else:
                # Both are on their way before either is answered.
                _, reply = await asyncio.gather(self._wire.api(f"sched_del {group}"), self._wire.api(renewed))
            task = _TASK.fullmatch(reply.text)
            if task is None:
                if reply.ok:
                    self._wire.drop(NOT_OURS)
                raise Unavailable(f"FreeSWITCH refused a lease: {reply.text}")
            leg.scheduled = task[1]

    def will_end(self, leg: FreeSwitchLeg) -> None:
        # Its lease goes with it (`let_go`), which needs somebody who hears of the end.
        self._chores.put(leg.ended, owed=True)

    def let_go(self, leg: FreeSwitchLeg) -> None:
        """Its story is over, the channel may go on."""
        if self._legs.pop(leg.id, None) is not None and self._wire.connected:
            self._chores.put(partial(self._end_lease_of, leg), owed=True)
            self._forget(leg.id)

    def _forget(self, unique_id: str) -> None:
        """No more of its events: it is none of our calls, or not any more. A connection that is lost has forgotten them all."""
        if self._wire.connected:
            self._chores.put(partial(self._wire_command, f"filter delete Unique-ID {unique_id}"))

    async def locate(self, leg: FreeSwitchLeg) -> None:
        """The leg's audio has been gone for a while, and no event said why."""
        await self.make_sure()
        if not await self._see(leg):
            raise Unavailable(f"{leg.id} is gone, and its end not told yet")
        if not leg.has_ended:
            await leg.play_hold_music()
            leg.lost_media()

    # Events, in order

    async def _read(self) -> None:
        async for item in self._wire.items():
            match item:
                case Up(version):
                    self._version = version
                    await self._came_up()
                case Down(reason):
                    self._went_down(reason)
                case Event():
                    self._understand(item)

    async def _came_up(self) -> None:
        try:
            # Filters first: a busy PBX's other calls, and their digits, are none of our business.
            for command in (f"filter Caller-Context {CONTEXT}", "filter Event-Name BACKGROUND_JOB", "filter auth-result FORBIDDEN"):
                await self._ask(command)
            await self._ask(f"event plain {SUBSCRIBED}")
        except Unavailable as error:
            # A connection that hears nothing must not have the heart beat on: calls would wait for what is never told.
            self._wire.drop(str(error))
            return
        try:
            await self._look_around()
        except Unavailable as error:
            log.warning("the PBX could not be looked at", pbx=self.name, error=str(error))
            return
        self._chores.put(self._look_again)
        log.info("PBX connected", pbx=self.name, calls=len(self._legs))

    def _went_down(self, reason: str) -> None:
        self._trouble = reason
        self._beat_at = float("-inf")
        for made in self._dialled.values():
            _fail(made, f"the PBX is gone: {reason}")
        if not self._control_lost:
            self._control_lost = True
            for leg in self._legs.values():
                leg.happened(ControlLost())

    def _understand(self, event: Event) -> None:
        unique_id = event["Unique-ID"]
        leg = self._legs.get(unique_id)
        if event.name == "CUSTOM":
            self._credentials.heard(event)
        elif event.name == "BACKGROUND_JOB":
            if not event.body.startswith("+OK") and (made := self._dialled.get(event["Job-UUID"])) is not None:
                _fail(made, f"FreeSWITCH does not call: {event.body.strip()}")
        elif UNIQUE_ID.fullmatch(unique_id) is None:
            # A caller's Call-ID, by `inbound-use-callid-as-uuid`: no command is made of it.
            log.error("a call is left to its fallback: its id is not one of FreeSWITCH's own making", pbx=self.name)
        elif leg is not None:
            self._understand_ours(leg, event)
        elif event.name == "CHANNEL_PARK" and event["Caller-Context"] == CONTEXT:
            self._understand_a_strangers(unique_id, event)
        elif event.name == "CHANNEL_HANGUP":
            self._gone.pop(unique_id, None)

    def _understand_a_strangers(self, unique_id: str, event: Event) -> None:
        if unique_id in self._gone:
            # Out of somebody's bridge: its story was over when they took it.
            del self._gone[unique_id]
            self._chores.put(partial(self._send_to_fallback, unique_id, event[f"variable_{FALLBACK}"]), owed=True)
        elif is_outgoing(event):
            # Called by a server that is no more: its note says what the call is about.
            self._chores.put(partial(self._come_back, unique_id))
        else:
            self._adopt(self._leg(unique_id, event, Loop.FRESH))

    def _understand_ours(self, leg: FreeSwitchLeg, event: Event) -> None:
        match event.name:
            case "CHANNEL_CREATE" if (made := self._dialled.get(leg.id)) is not None and not made.done():
                made.set_result(None)
            case "CHANNEL_PARK":
                if leg.parked():
                    self._chores.put(partial(self._hold, leg))
            case "CHANNEL_UNPARK" if not leg.moves and event["Answer-State"] != "hangup":
                self._chores.put(partial(self._look_at, leg))
            case "CHANNEL_ANSWER":
                self._answered(leg)
            case "CHANNEL_BRIDGE":
                self._taken_away(leg)
            case "CHANNEL_HOLD":
                leg.happened(Held())
            case "CHANNEL_UNHOLD":
                leg.happened(Resumed())
            case "DTMF":
                at = event["Event-Date-Timestamp"]
                leg.pressed(event["DTMF-Digit"], event["DTMF-Source"], int(at) if _NUMBER.fullmatch(at) else 0)
            case "CHANNEL_HANGUP":
                self._hung_up(leg, event)

    def _answered(self, leg: FreeSwitchLeg) -> None:
        if leg.was_answered():
            self._chores.put(partial(leg.hang_up, EndReason.CANCELLED), owed=True)

    def _hung_up(self, leg: FreeSwitchLeg, event: Event) -> None:
        status = event["variable_sip_term_status"] or event["variable_sip_invite_failure_status"]
        disposition = event["variable_sip_hangup_disposition"]
        if (made := self._dialled.get(leg.id)) is not None and not made.done():
            made.set_result(None)  # it was there
        leg.hung_up(
            # Of a BYE the disposition comes a moment later (1.10, measured), but a status is there: where we end a call, there is none.
            by_caller=disposition.startswith("recv_") or (not disposition and status != ""),
            cause=event["Hangup-Cause"].replace("_", " ").lower(),
            sip_status=int(status) if _STATUS.fullmatch(status) else None,
        )
        self.let_go(leg)

    def _leg(self, unique_id: str, channel: Event, loop: Loop, *, note: str | None = None) -> FreeSwitchLeg:
        facts = ChannelFacts(
            unique_id,
            read_caller(channel, self._options.trusted_users),
            fallback=channel[f"variable_{FALLBACK}"],
            codec=codec(channel),
            sip=is_sip(channel),
            outgoing=is_outgoing(channel),
        )
        answered = channel["Answer-State"] == "answered"
        return FreeSwitchLeg(self, facts, media_lease=self._options.media_lease, loop=loop, note=note, answered=answered)

    def _adopt(self, leg: FreeSwitchLeg) -> None:
        self._legs[leg.id] = leg
        self._new.put_nowait(leg)
        self._chores.put(partial(self._hold, leg))

    async def _hold(self, leg: FreeSwitchLeg) -> None:
        """A call that is ours from now on: every event of it, and our lease in the place of whose it was."""
        leg.scheduled = ""
        await asyncio.gather(
            self._wire.command(f"filter Unique-ID {leg.id}"),
            self._wire.api(f"uuid_setvar {leg.id} max_session_transfers {FORWARDS}"),
            self.lease(leg),
        )

    async def _wire_command(self, command: str) -> None:
        await self._wire.command(command)

    async def _end_lease_of(self, leg: FreeSwitchLeg) -> None:
        async with leg.leasing:  # or one that is being renewed would outlive it
            await self._end_lease(leg.id)

    async def _end_lease(self, unique_id: str) -> None:
        await self._wire.api(f"sched_del {lease_group(unique_id)}")

    async def _send_to_fallback(self, unique_id: str, fallback: str) -> None:
        await self.make_sure()
        await self._wire.api(to_fallback(unique_id, fallback))

    def _taken_away(self, leg: FreeSwitchLeg) -> None:
        log.warning("somebody at the PBX has moved a call elsewhere", leg=leg.id)
        leg.taken_away()
        self._gone[leg.id] = None
        if len(self._gone) > MOST_GONE:
            self._gone.popitem(last=False)
        self.let_go(leg)

    # What is there, and who commands

    async def _look_around(self) -> None:
        """See who commands the PBX (raises Superseded) and which calls are ours: the vanished end, the unknown are taken."""
        async with self._look:
            if time.monotonic() - self._beat_at <= AWAY:
                return
            await self._claim()
            known = list(self._legs.values())
            for leg in known:
                await self._wire.command(f"filter Unique-ID {leg.id}")
                await self._see(leg, was_away=True)
            await self._take_unknown()
            await self._lift_leases_elsewhere()
            self._beat_at = time.monotonic()
            if self._control_lost:
                self._control_lost = False
                for leg in known:
                    leg.happened(ControlBack())
            for leg in self._legs.values():
                self._chores.put(leg.end_as_wanted, owed=True)

    async def _come_back(self, unique_id: str) -> None:
        await self.make_sure()
        if unique_id not in self._legs:
            await self._take(unique_id)

    async def _look_again(self) -> None:
        await asyncio.sleep(SECOND_LOOK)
        await self.make_sure()
        await self._take_unknown()

    async def _take_unknown(self) -> None:
        reply = await self._wire.api("show channels as json")
        if not reply.ok:
            # Started with -nosql, say. New calls are announced all the same.
            log.error("calls that were up before cannot be found again: FreeSWITCH lists none", pbx=self.name, answer=reply.text)
            return
        for unique_id in _in_our_context(reply.text):
            if unique_id not in self._legs and unique_id not in self._gone:
                await self._take(unique_id)

    async def _lift_leases_elsewhere(self) -> None:
        """Leases on calls that somebody has moved away while no controller ran: they would tear them out of where they are now."""
        reply = await self._wire.api("show tasks as json")
        if not reply.ok:
            return  # started with -nosql, say: `_take_unknown` has told of it
        for unique_id in {leased(str(row.get("task_group", ""))) for row in _rows(reply.text)}:
            if unique_id and unique_id not in self._legs:
                channel = await self._dump(unique_id)
                if channel is not None and place(channel) is not Place.OURS:
                    self._chores.put(partial(self._end_lease, unique_id), owed=True)

    async def _dump(self, unique_id: str) -> Event | None:
        """What FreeSWITCH says of a channel; None when it has none of this id."""
        reply = await self._wire.api(f"uuid_dump {unique_id}")
        if not reply.ok:
            if means_gone(reply):
                return None
            raise Unavailable(f"FreeSWITCH refused: {reply.text}")
        try:
            return read_event(reply.text)
        except RemoteProtocolError as error:
            raise Unavailable(str(error)) from None

    async def _look_at(self, leg: FreeSwitchLeg) -> None:
        """It has left its park loop, and not at our word."""
        if not leg.has_ended:
            await self._see(leg)

    async def _see(self, leg: FreeSwitchLeg, *, was_away: bool = False) -> bool:
        """What has become of a call that we knew, in place of the events we may have missed. False: there is no such channel."""
        channel = await self._dump(leg.id)
        if leg.has_ended:
            return True
        if channel is None or channel["Answer-State"] == "hangup":
            if was_away:
                leg.end(Ending(EndedBy.CALLER, cause="ended while the PBX could not be heard"))
                self.let_go(leg)
            return False
        match place(channel):
            case Place.OURS:
                if channel["Answer-State"] == "answered":
                    self._answered(leg)
            case Place.FALLBACK:
                leg.fell_back()
                self.let_go(leg)
            case Place.TAKEN if is_outgoing(channel) and not leg.answered:
                pass  # it has not been answered, or a moment ago
            case Place.TAKEN:
                self._taken_away(leg)
        return True

    async def _take(self, unique_id: str) -> None:
        """A call that is up in our context and that we did not know."""
        # Before the look, so that nothing is missed of one that is ours.
        await self._wire.command(f"filter Unique-ID {unique_id}")
        try:
            channel = await self._dump(unique_id)
            if channel is not None and place(channel) is Place.OURS and unique_id not in self._legs:
                await self._take_as_it_is(unique_id, channel)
        finally:
            if unique_id not in self._legs:
                self._forget(unique_id)

    async def _take_as_it_is(self, unique_id: str, channel: Event) -> None:
        note = read_note(channel[f"variable_{NOTE}"])
        if note is None and is_outgoing(channel):
            # We have given them up before they answered, or know nothing of what they were called for: no caller who comes in.
            log.warning("somebody has answered whom nobody calls any more: the call ends", pbx=self.name, leg=unique_id)
            await self._wire.api(f"uuid_kill {unique_id} NORMAL_CLEARING")
            return
        leg = self._leg(unique_id, channel, Loop.USED if channel["Answer-State"] == "answered" else Loop.FRESH, note=note)
        if note is not None and leg.answered:
            leg.goes_on_with_media()
        self._adopt(leg)

    async def _claim(self) -> None:
        """Take the PBX over, at the first look; at any later one make sure that nobody has taken it from us."""
        value = self._heart.after(await self._read_heartbeat())
        if value is None:
            self._superseded = True
            for leg in self._legs.values():
                leg.happened(ControlLost())
            raise Superseded(f"a newer controller has taken {self.name} over")
        reply = await self._wire.api(f"global_setvar {HEARTBEAT}={value}")
        if not reply.ok:
            raise Unavailable(f"FreeSWITCH refused the heartbeat: {reply.text}")

    async def _read_heartbeat(self) -> str:
        # One that is not set is answered with an error, as everything that writes nothing.
        return (await self._wire.api(f"global_getvar {HEARTBEAT}")).text

    async def _ask(self, command: str) -> None:
        reply = await self._wire.command(command)
        if not reply.ok:
            raise Unavailable(f"FreeSWITCH refused {command.split(maxsplit=1)[0]}: {reply.text}")

    async def _beat(self) -> None:
        told = ""
        while True:
            await asyncio.sleep(self._options.beat)
            if not self._wire.connected:
                continue
            try:
                await self.make_sure()
                await self._claim()
                self._beat_at = time.monotonic()
                await self._renew()
                told = ""
            except Unavailable as error:
                if str(error) != told:
                    told = str(error)
                    log.warning("the heartbeat did not reach the PBX", pbx=self.name, error=told)

    async def _renew(self) -> None:
        """Renew the leases, so often that a server that starts at once finds its callers there."""
        now = time.monotonic()
        # A call that begins to talk has a longer lease only from the next renewal on: the one that runs is what counts.
        due = [leg for leg in self._legs.values() if now - leg.leased_at >= min(leg.lease, leg.leased_for) / 6]
        await asyncio.gather(*(self.lease(leg) for leg in due))


def _fail(made: "asyncio.Future[None]", why: str) -> None:
    if not made.done():
        made.set_exception(Unavailable(why))
        made.exception()  # seen, even if its waiter has just given up


def _rows(text: str) -> Sequence[Mapping[str, Any]]:
    """The rows of an answer to `show … as json`. Raises Unavailable."""
    try:
        rows = json.loads(text).get("rows", [])
        if all(isinstance(row, dict) for row in rows):
            return list(rows)
    except (ValueError, AttributeError, TypeError, RecursionError):
        pass
    raise Unavailable("FreeSWITCH does not say which calls there are")


def _in_our_context(text: str) -> Sequence[str]:
    """The ids in an answer to `show channels as json`. Raises Unavailable."""
    rows = _rows(text)
    if not all("uuid" in row for row in rows):
        raise Unavailable("FreeSWITCH does not say which calls there are")
    return [str(row["uuid"]) for row in rows if row.get("context") == CONTEXT and UNIQUE_ID.fullmatch(str(row["uuid"]))]
