"""CreateSIPParticipant (livekit-sip-semantics.md §1.11): the order of its checks, what is asked of the PBX, and who waits for what. What
becomes of the calls is tests/call/test_outgoing.py's, real phones are tests/real's."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from aiohttp import web
from google.protobuf.duration_pb2 import Duration
from livekit import api
from livekit.protocol import sip
from pydantic import SecretStr

from bridge.api.auth import Grants, Keys
from bridge.api.outbound import CALLED_LIMIT, DAY, DIGITS_LIMIT, MOST, RINGING_TIMEOUT, Limits, Outbound
from bridge.api.server import serve_api
from bridge.api.twirp import Service, Twirp, TwirpError, time_left
from bridge.call.live import Progress
from bridge.call.registry import NoRoom, NoSuchCall
from bridge.errors import CannotDial, Unavailable
from bridge.model.ending import EndedBy, EndReason
from bridge.model.note import CallNote, CallState
from bridge.model.record import CallRecord, LiveCall
from bridge.model.target import AllowedTargets
from bridge.model.trunk import OutboundTrunk
from bridge.pbx.port import DialRequest, Pbx
from bridge.store.inventory import edited
from bridge.store.port import Edit, Inventory
from bridge.testing.fake_pbx import FakePbx
from bridge.testing.fake_world import FakeWorld
from bridge.testing.fakes import MemoryStore

SECRET = "a-secret-of-thirty-two-characters!"
MAY = Grants(sip_call=True)
NOW = 1_000.0
TRUNK = OutboundTrunk(sip_trunk_id="ST_out", address="carrier.example", numbers=("+15550100",), headers={"X-Who": "trunk", "X-Our": "1"})
NAMELESS = OutboundTrunk(sip_trunk_id="ST_nameless", address="carrier.example")


def asked(to: str = "+15550123", trunk: str = "ST_out", room: str = "lobby", **more: Any) -> sip.CreateSIPParticipantRequest:
    return sip.CreateSIPParticipantRequest(sip_call_to=to, sip_trunk_id=trunk, room_name=room, **more)


class Books:
    """A registry that places a call as a test wants it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.placed: list[tuple[str, DialRequest, CallNote]] = []
        self.hung_up: list[tuple[str, EndReason]] = []
        self.progress = Progress()
        self.dialling = asyncio.Event()
        self.rings = asyncio.Event()
        self.rings.set()
        self.time_left = 0.0
        self.live: list[LiveCall] = []
        self.ended = MemoryStore()

    async def place(self, pbx: Pbx, request: DialRequest, note: CallNote) -> Progress:
        self.time_left = time_left()
        self.dialling.set()
        await self.rings.wait()
        if self.error is not None:
            raise self.error
        self.placed.append((pbx.name, request, note))
        return self.progress

    def calls(self) -> Sequence[LiveCall]:
        return self.live

    def hang_up(self, call_id: str, reason: EndReason) -> None:
        if self.progress.over.is_set():
            raise NoSuchCall(call_id)
        self.hung_up.append((call_id, reason))

    def ends(self, reason: EndReason, status: int | None = None, detail: str = "") -> None:
        facts = {"call_id": "SCL_a", "pbx": "fake", "leg_id": "1", "started_at": NOW, "ended_at": NOW, "ended_by": EndedBy.CALLER}
        self.progress.why = CallRecord.model_validate({**facts, "end_reason": reason, "sip_status": status, "detail": detail})
        self.progress.over.set()


class Objects:
    async def read(self) -> Inventory:
        return edited(Inventory(), Edit(put=(TRUNK, NAMELESS)))


class Clock:
    def now(self) -> float:
        return NOW


def outbound(books: Books, *, allow: tuple[str, ...] = ("+1555*",), ways: tuple[str, ...] = ("ST_out", "ST_nameless")) -> Any:
    pbx = FakePbx(FakeWorld())
    pbx.ways_out = set(ways)
    limits = Limits(AllowedTargets(allow), longest=3_600.0, daily=6_000.0)
    made: Any = Outbound(books, [pbx], Objects(), books.ended, limits, Clock(), lambda: "SCL_a")  # type: ignore[arg-type]  # as much of them as is used
    return made.methods()["CreateSIPParticipant"]


def service(books: Books) -> Service:
    return Service(
        sip.DESCRIPTOR.services_by_name["SIP"],
        {"CreateSIPParticipant": outbound(books)},
        Outbound.patience(cast(Any, None)),
    )


@asynccontextmanager
async def serving(books: Books) -> AsyncIterator[Any]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", Twirp([service(books)], Keys({"devkey": SecretStr(SECRET)})).handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with api.LiveKitAPI(f"http://127.0.0.1:{runner.addresses[0][1]}", "devkey", SECRET) as client:
            yield client.sip
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("request_", "grants", "code", "says"),
    [
        # In the order in which they are looked at: each request has what the later ones object to.
        (asked("", "", ""), None, "unauthenticated", "permissions denied"),
        (asked("", "", ""), Grants(sip_admin=True), "unauthenticated", "permissions denied"),
        (asked("", "", ""), MAY, "invalid_argument", "a trunk is missing"),
        (asked("", "ST_x", ""), MAY, "invalid_argument", "sip_call_to"),
        (asked("a@b", "ST_x", ""), MAY, "invalid_argument", "sip_call_to"),
        (asked(trunk="ST_x", room=""), MAY, "invalid_argument", "room"),
        (asked(trunk="ST_x"), MAY, "not_found", "requested SIP trunk does not exist"),
        (asked("+1555,4"), MAY, "invalid_argument", "sip_call_to"),
        (asked("1&Local/2"), MAY, "invalid_argument", "sip_call_to"),
        (asked(dtmf="1,2"), MAY, "invalid_argument", "dtmf"),
        (asked(sip_request_uri=sip.SIPRequestDest(raw="sip:x@y")), MAY, "invalid_argument", "sip_request_uri"),
        (asked(sip_to_header=sip.SIPNamedDest(values=sip.SIPUri(user="x", host="y", port=5060))), MAY, "invalid_argument", "sip_to_header"),
        (asked(to_user_override="x"), MAY, "invalid_argument", "to_user_override"),
        (asked("+1555" * 50), MAY, "invalid_argument", "sip_call_to"),
        (asked(sip_number="+1555" * 50), MAY, "invalid_argument", "sip_number"),
        (asked(dtmf="1" * (DIGITS_LIMIT + 1)), MAY, "invalid_argument", "dtmf"),
        (asked(room="☎" * 86), MAY, "invalid_argument", "room_name"),
        (asked(participant_identity="i" * 257), MAY, "invalid_argument", "participant_identity"),
        (asked(participant_name="n" * 100_000), MAY, "invalid_argument", "participant_name"),
        (asked(participant_metadata="m" * (512 * 1024 + 1)), MAY, "invalid_argument", "participant_metadata"),
        (asked(participant_attributes={"a": "v" * 64 * 1024}), MAY, "invalid_argument", "participant_attributes"),
        (asked(trunk="ST_nameless"), MAY, "failed_precondition", "number to call from"),
        (asked("+4930"), MAY, "permission_denied", "outbound.allow"),
    ],
)
async def test_given_what_is_refused_then_in_this_order_and_nobody_is_called(
    request_: sip.CreateSIPParticipantRequest, grants: Grants | None, code: str, says: str
) -> None:
    books = Books()
    with pytest.raises(TwirpError) as refused:
        await outbound(books)(request_, grants)
    assert (refused.value.code, says in str(refused.value)) == (code, True), str(refused.value)
    assert books.placed == []


async def test_given_no_patterns_then_nobody_is_called() -> None:
    with pytest.raises(TwirpError, match=r"none of the patterns in outbound\.allow fits"):
        await outbound(Books(), allow=())(asked(), MAY)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CannotDial("no endpoint"), "failed_precondition"),
        (NoRoom("outbound.max_calls"), "resource_exhausted"),
        (Unavailable("no answer to Originate"), "unavailable"),
    ],
)
async def test_given_a_call_that_cannot_be_placed_then_the_reason(error: Exception, code: str) -> None:
    with pytest.raises(TwirpError, match=str(error)) as refused:
        await outbound(Books(error))(asked(), MAY)
    assert refused.value.code == code


async def test_given_no_way_out_by_the_trunk_then_it_says_where_to_name_one() -> None:
    with pytest.raises(TwirpError, match=r"pbx\[\]\.outbound_endpoints"):
        await outbound(Books(), ways=())(asked(), MAY)


async def test_given_a_request_then_the_pbx_and_the_story_are_told_what_it_says() -> None:
    books = Books()
    books.progress.seated.set()
    request = asked(
        participant_identity="bob",
        participant_name="Bob",
        participant_metadata="m",
        participant_attributes={"team": "a", "sip.trunkID": "forged"},
        headers={"X-Who": "request"},
        dtmf="12w#",
        play_dialtone=True,
        ringing_timeout=Duration(seconds=20),
        max_call_duration=Duration(seconds=60),
        display_name="Bob's shop",
    )
    answer = await outbound(books)(request, MAY)
    assert answer == sip.SIPParticipantInfo(participant_identity="bob", room_name="lobby", sip_call_id="SCL_a")
    ((pbx, dialled, note),) = books.placed
    assert pbx == "fake"
    assert dialled == DialRequest("ST_out", "+15550123", "+15550100", "Bob's shop", {"X-Who": "request", "X-Our": "1"}, 20.0)
    assert (note.company_until, note.over_at, note.digits, note.outgoing) == (NOW + 20, NOW + 60, "12w#", True)
    assert note.ticket is not None
    assert (note.ticket.identity, note.ticket.name, note.ticket.metadata, note.ticket.dial_tone) == ("bob", "Bob", "m", True)
    assert note.ticket.attributes == {
        "team": "a",
        "sip.callID": "SCL_a",
        "sip.callStatus": "dialing",
        "sip.trunkID": "ST_out",
        "sip.phoneNumber": "+15550123",
        "sip.hostname": "carrier.example",
        "sip.trunkPhoneNumber": "+15550100",
    }


async def test_given_next_to_nothing_then_livekits_defaults_and_the_operators_limits() -> None:
    books = Books()
    books.progress.seated.set()
    await outbound(books)(asked(hide_phone_number=True, max_call_duration=Duration(seconds=10**6)), MAY)
    ((_, dialled, note),) = books.placed
    assert (dialled.name, dialled.limit, note.over_at) == ("+15550100", RINGING_TIMEOUT, NOW + 3_600)
    assert note.ticket is not None
    assert (note.ticket.identity, note.ticket.name, note.ticket.dial_tone) == ("sip_+15550123", "Phone", False)
    assert {"sip.phoneNumber", "sip.hostname", "sip.trunkPhoneNumber"}.isdisjoint(note.ticket.attributes)


def call(began: float, **more: Any) -> dict[str, Any]:
    return {"call_id": f"SCL_{began}", "pbx": "fake", "leg_id": "1", "started_at": began, "answered_at": began, "outgoing": True, **more}


def over(began: float, ended: float, **more: Any) -> CallRecord:
    facts = {"ended_at": ended, "ended_by": EndedBy.CALLER, "end_reason": EndReason.HANGUP}
    return CallRecord.model_validate({**call(began), **facts, **more})


async def test_given_calls_that_have_talked_for_the_day_then_none_goes_out_any_more() -> None:
    books = Books()
    books.progress.seated.set()
    long_ago = over(NOW - 2 * DAY, NOW - DAY + 1_000.0)  # of which 1,000 seconds are within the day
    inbound = over(NOW - 4_000.0, NOW - 1.0, outgoing=False)
    unanswered = over(NOW - 3_999.0, NOW - 1.0, answered_at=None)
    for record in (long_ago, inbound, unanswered, over(NOW - 5_000.0, NOW - 1_000.0)):
        await books.ended.keep_record(record)
    books.live = [LiveCall.model_validate({**call(NOW - 600.0), "state": CallState.TALKING, "answered": True})]
    books.live.append(LiveCall.model_validate({**call(NOW - 600.0, outgoing=False), "state": CallState.TALKING, "answered": True}))
    await outbound(books)(asked(max_call_duration=Duration(seconds=1_000)), MAY)
    assert books.placed[-1][2].over_at == NOW + 400, "what is left of the day"
    books.live = [LiveCall.model_validate({**call(NOW - 1_000.0), "state": CallState.TALKING, "answered": True})]
    with pytest.raises(TwirpError, match=r"outbound\.max_minutes_per_day") as refused:
        await outbound(books)(asked(), MAY)
    assert (refused.value.code, len(books.placed)) == ("resource_exhausted", 1)


async def test_given_records_that_cannot_be_read_then_nobody_is_called() -> None:
    books = Books()
    books.ended.broken = True
    with pytest.raises(Unavailable):
        await outbound(books)(asked(), MAY)
    assert books.placed == []


async def test_given_names_as_long_as_livekit_takes_them_then_they_are_called() -> None:
    books = Books()
    books.progress.seated.set()
    names = {"room": "☎" * 85, "participant_identity": "i" * 256, "participant_name": "n" * 256, "dtmf": "1" * DIGITS_LIMIT}
    await outbound(books, allow=("*",))(asked("1" * CALLED_LIMIT, **names), MAY)
    ((_, _, note),) = books.placed
    assert note.ticket is not None
    await outbound(books, allow=("*",))(asked("1" * CALLED_LIMIT), MAY)
    ticket = books.placed[1][2].ticket
    assert ticket is not None
    assert max(len(ticket.identity), len(ticket.name)) <= 256


@pytest.mark.parametrize(
    ("said", "until_answered", "seconds"),
    [(None, False, 30), (None, True, 80), (100, True, 100), (100, False, 100), (10, True, 10), (0, True, 80), (10**5, True, MOST)],
)
async def test_given_a_request_then_it_may_take_livekits_time_or_what_its_asker_says(
    said: int | None, seconds: float, *, until_answered: bool
) -> None:
    books = Books()
    books.progress.seated.set()
    books.progress.answered.set()
    async with serving(books) as client:
        headers = client._auth_header(api.VideoGrants(), sip=api.SIPGrants(call=True))
        if said is not None:
            headers["X-Twirp-Timeout-Ms"] = str(said * 1000)
        request = asked(wait_until_answered=until_answered)
        await client._client.request("SIP", "CreateSIPParticipant", request, headers, sip.SIPParticipantInfo)
    assert seconds - 5 < books.time_left <= seconds


async def test_given_who_waits_for_an_answer_then_a_seat_is_none() -> None:
    books = Books()
    books.progress.seated.set()
    waiting = asyncio.create_task(outbound(books)(asked(wait_until_answered=True), MAY))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    books.progress.answered.set()
    assert (await waiting).sip_call_id == "SCL_a"
    assert books.hung_up == []


@pytest.mark.parametrize(
    ("reason", "status", "detail", "code", "says"),
    [
        (EndReason.DECLINED, 486, "", "resource_exhausted", "486"),
        (EndReason.DECLINED, 603, "", "permission_denied", "603"),
        (EndReason.NO_ANSWER, 480, "", "resource_exhausted", "480"),
        (EndReason.ROOM_FAILED, 503, "LiveKit cannot be reached", "unavailable", "LiveKit cannot be reached"),
        (EndReason.REMOVED, None, "", "unavailable", "removed"),
    ],
)
@pytest.mark.parametrize("until_answered", [True, False])
async def test_given_a_call_that_ends_before_what_is_waited_for_then_livekits_client_is_told_why(
    reason: EndReason, status: int, detail: str, code: str, says: str, *, until_answered: bool
) -> None:
    books = Books()
    books.ends(reason, status, detail)
    async with serving(books) as client:
        with pytest.raises(api.TwirpError, match=says) as failed:
            await client.create_sip_participant(asked(wait_until_answered=until_answered))
    assert failed.value.code == code
    assert failed.value.metadata["sip_call_id"] == "SCL_a"


async def test_given_no_answer_in_the_time_of_the_request_then_the_call_ends_and_the_asker_is_told_in_time() -> None:
    books = Books()
    async with serving(books) as client:
        headers = {**client._auth_header(api.VideoGrants(), sip=api.SIPGrants(call=True)), "X-Twirp-Timeout-Ms": "500"}
        with pytest.raises(api.TwirpError, match="nobody has answered in the time of this request") as failed:
            await client._client.request("SIP", "CreateSIPParticipant", asked(wait_until_answered=True), headers, sip.SIPParticipantInfo)
    assert failed.value.code == "deadline_exceeded"
    assert books.hung_up == [("SCL_a", EndReason.REQUESTED)]


@pytest.mark.parametrize(("until_answered", "ends"), [(True, True), (False, False)])
async def test_given_who_asked_is_gone_then_a_call_they_waited_for_ends_with_them(*, until_answered: bool, ends: bool) -> None:
    books = Books()
    waiting = asyncio.create_task(outbound(books)(asked(wait_until_answered=until_answered), MAY))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert bool(books.hung_up) is ends


@pytest.mark.parametrize(("until_answered", "ends"), [(True, True), (False, False)])
async def test_given_who_asked_is_gone_before_the_pbx_has_told_of_the_call_then_that_is_waited_for(
    *, until_answered: bool, ends: bool
) -> None:
    books = Books()
    books.rings.clear()
    asking = asyncio.create_task(outbound(books)(asked(wait_until_answered=until_answered), MAY))
    await books.dialling.wait()
    asking.cancel()
    await asyncio.sleep(0.05)
    assert (asking.done(), books.placed, books.hung_up) == (False, [], [])
    books.rings.set()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert (len(books.placed), bool(books.hung_up)) == (1, ends)


async def test_given_a_pbx_that_tells_of_the_call_after_the_time_of_the_request_then_it_ends_all_the_same() -> None:
    books = Books()
    books.rings.clear()
    async with serving(books) as client:
        headers = {**client._auth_header(api.VideoGrants(), sip=api.SIPGrants(call=True)), "X-Twirp-Timeout-Ms": "50"}
        asking = asyncio.create_task(client._client.request("SIP", "CreateSIPParticipant", asked(), headers, sip.SIPParticipantInfo))
        await books.dialling.wait()
        await asyncio.sleep(0.1)
        books.rings.set()
        with pytest.raises(api.TwirpError) as failed:
            await asking
    assert failed.value.code == "deadline_exceeded"
    assert books.hung_up == [("SCL_a", EndReason.REQUESTED)]


@pytest.mark.parametrize("rings", [True, False])
async def test_given_a_connection_that_its_asker_closes_then_the_phone_rings_no_longer(*, rings: bool) -> None:
    books = Books()
    if not rings:
        books.rings.clear()
    twirp = Twirp([service(books)], Keys({"devkey": SecretStr(SECRET)}))
    token = api.AccessToken("devkey", SECRET).with_sip_grants(api.SIPGrants(call=True)).to_jwt()
    body = asked(wait_until_answered=True).SerializeToString()
    async with serve_api(twirp, (), "127.0.0.1", 0) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"POST /twirp/livekit.SIP/CreateSIPParticipant HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/protobuf\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        await books.dialling.wait()
        assert books.hung_up == []
        writer.close()
        await writer.wait_closed()
        books.rings.set()
        async with asyncio.timeout(10):
            while not books.hung_up:  # noqa: ASYNC110  (nobody is told when)
                await asyncio.sleep(0.01)
    assert books.hung_up == [("SCL_a", EndReason.REQUESTED)]


async def test_given_a_call_that_is_over_when_its_asker_goes_then_nothing_is_hung_up() -> None:
    books = Books()
    waiting = asyncio.create_task(outbound(books)(asked(wait_until_answered=True), MAY))
    await asyncio.sleep(0.05)
    books.ends(EndReason.DECLINED, 486)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert books.hung_up == []
