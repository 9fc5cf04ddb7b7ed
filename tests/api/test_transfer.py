"""TransferSIPParticipant (livekit-sip-semantics.md §1.12, §3.9): the order of its checks, and what becomes of the call. Real phones are in
tests/real."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from google.protobuf.duration_pb2 import Duration
from livekit import api
from livekit.protocol import sip
from pydantic import SecretStr

from bridge.api.auth import Grants, Keys
from bridge.api.transfer import Transfers, nobody_else
from bridge.api.twirp import Code, Service, Twirp, TwirpError
from bridge.errors import Unavailable
from bridge.model.ending import EndReason
from bridge.model.note import CallState
from bridge.model.record import LiveCall
from bridge.model.target import AllowedTargets
from bridge.pbx.port import TransferFailure, TransferResult
from bridge.testing.fake_pbx import FakeLeg
from bridge.testing.time_travel import travel
from tests.call.stage import CALLER, Stage, stage

SECRET = "a-secret-of-thirty-two-characters!"
ALLOWED = AllowedTargets(["+1*", "*@example.net"])
ROOM, IDENTITY = "lobby", "sip_+1"
MAY = Grants(sip_call=True, room_admin=True, room=ROOM)


def asked(
    to: str = "sip:desk@example.net", *, room: str = ROOM, identity: str = IDENTITY, **more: Any
) -> sip.TransferSIPParticipantRequest:
    return sip.TransferSIPParticipantRequest(participant_identity=identity, room_name=room, transfer_to=to, **more)


class Books:
    """A registry with one call, which gives the result that a test wants."""

    def __init__(self, result: TransferResult | None = None) -> None:
        self.result = result or TransferResult(ok=True)
        self.orders: list[tuple[str, str, dict[str, str], float, bool]] = []

    def calls(self) -> Sequence[LiveCall]:
        talking = CallState.TALKING
        return [LiveCall(call_id="SCL_a", pbx="hq", leg_id="1", state=talking, answered=True, room=ROOM, identity=IDENTITY, started_at=0.0)]

    async def transfer(
        self, call_id: str, to: str, headers: Mapping[str, str] | None = None, timeout: float = 30.0, *, dial_tone: bool = False
    ) -> TransferResult:
        self.orders.append((call_id, to, dict(headers or {}), timeout, dial_tone))
        return self.result


def transfers(
    books: Any = None, allowed: AllowedTargets = ALLOWED, is_there: Callable[[str, str], Awaitable[bool]] = nobody_else
) -> Callable[..., Awaitable[Any]]:
    return Transfers(books or Books(), allowed, lambda: "abcdefghijkm", is_there).methods()["TransferSIPParticipant"]


async def somebody(room: str, identity: str) -> bool:
    return identity == "agent"


NOBODY = Grants()
HEADER: dict[str, Any] = {"headers": {"Call-ID": "x"}}


@pytest.mark.parametrize(
    ("request_", "grants", "code", "says"),
    [
        # In the order in which they are looked at: each request has all that the later ones object to.
        (asked("", room="", identity=""), None, "invalid_argument", "room"),
        (asked("", identity=""), None, "invalid_argument", "identity"),
        (asked("", identity="nobody"), None, "unauthenticated", "permissions denied"),
        (asked("", identity="nobody"), NOBODY, "unauthenticated", "permissions denied"),
        (asked("", identity="nobody"), Grants(sip_admin=True, room_admin=True, room=ROOM), "unauthenticated", "permissions denied"),
        (asked("", identity="nobody"), Grants(sip_call=True), "unauthenticated", "permissions denied"),
        (asked("", identity="nobody"), Grants(sip_call=True, room_admin=True), "unauthenticated", "permissions denied"),
        (asked("", identity="nobody"), Grants(sip_call=True, room_admin=True, room="other"), "unauthenticated", "permissions denied"),
        (asked("", identity="nobody", **HEADER), MAY, "invalid_argument", "transfer_to is missing"),
        (asked("http://h", identity="nobody", **HEADER), MAY, "invalid_argument", "begins with sip:"),
        (asked("sip:a&b@h", identity="nobody", **HEADER), MAY, "invalid_argument", "header"),
        (asked("sip:a&b@h", identity="nobody"), MAY, "invalid_argument", "transfer_to: sip: is followed by"),
        (asked("tel:+49301", identity="nobody"), MAY, "permission_denied", "outbound.allow"),
        (asked("sip:+1@premium.example", identity="nobody"), MAY, "permission_denied", "outbound.allow"),
        (asked(identity="nobody"), MAY, "not_found", "participant does not exist"),
        (asked(identity="agent"), MAY, "invalid_argument", "no SIP session"),
    ],
)
async def test_given_what_is_refused_then_in_livekits_order(
    request_: sip.TransferSIPParticipantRequest, grants: Grants | None, code: str, says: str
) -> None:
    books = Books()
    with pytest.raises(TwirpError) as refused:
        await transfers(books, is_there=somebody)(request_, grants)
    assert (refused.value.code, says in str(refused.value)) == (code, True), str(refused.value)
    assert books.orders == []


async def test_given_no_patterns_then_nobody_is_handed_on() -> None:
    for to in ("tel:+1", "sip:a@example.net"):
        with pytest.raises(TwirpError, match=r"none of the patterns in outbound\.allow fits"):
            await transfers(allowed=AllowedTargets(()))(asked(to), MAY)


@pytest.mark.parametrize(
    ("request_", "order"),
    [
        (asked(), ("SCL_a", "<sip:desk@example.net>", {}, 30.0, False)),
        (asked("<sips:desk@Example.NET;lr>"), ("SCL_a", "<sips:desk@example.net;lr>", {}, 30.0, False)),
        (asked("tel:+1-510"), ("SCL_a", "tel:+1510", {}, 30.0, False)),
        (
            asked(headers={"X-Reason": "lunch"}, play_dialtone=True, ringing_timeout=Duration(seconds=2, nanos=500_000_000)),
            ("SCL_a", "<sip:desk@example.net>", {"X-Reason": "lunch"}, 2.5, True),
        ),
        (asked(ringing_timeout=Duration()), ("SCL_a", "<sip:desk@example.net>", {}, 30.0, False)),
        (asked(ringing_timeout=Duration(seconds=-1)), ("SCL_a", "<sip:desk@example.net>", {}, 30.0, False)),
        (asked(ringing_timeout=Duration(seconds=10**12)), ("SCL_a", "<sip:desk@example.net>", {}, 55.0, False)),
    ],
)
async def test_given_a_request_then_the_call_is_asked_for_what_it_says(request_: sip.TransferSIPParticipantRequest, order: Any) -> None:
    books = Books()
    answer = await transfers(books)(request_, MAY)
    assert books.orders == [order]
    assert answer == sip.TransferSIPParticipantResponse(
        transfer_id="STR_abcdefghijkm", status=sip.STS_TRANSFER_SUCCESSFUL, reason=sip.STR_COMPLETED
    )


@pytest.mark.parametrize(
    ("result", "code", "meta"),
    [
        (TransferResult(False, 486), "resource_exhausted", ("486", "STR_REJECTED")),
        (TransferResult(False, 603), "permission_denied", ("603", "STR_REJECTED")),
        (TransferResult(False, 503), "failed_precondition", ("503", "STR_REJECTED")),
        (TransferResult(False, None, "unsupported"), "failed_precondition", (None, "STR_REJECTED")),
        (TransferResult(False, 200, "failure"), "failed_precondition", (None, "STR_REJECTED")),
        (TransferResult(False, None, "too late", TransferFailure.TIMED_OUT), "canceled", (None, "STR_RINGING_TIMEOUT")),
        (TransferResult(False, None, "x", TransferFailure.NO_CALL), "not_found", (None, None)),
        (TransferResult(False, None, "x", TransferFailure.NOT_TALKING), "failed_precondition", (None, None)),
        (TransferResult(False, None, "x", TransferFailure.ELSEWHERE), "invalid_argument", (None, None)),
        (TransferResult(False, None, "x", TransferFailure.NOT_SENT), "unavailable", (None, None)),
    ],
)
async def test_given_a_transfer_that_fails_then_livekits_client_is_told_how(
    result: TransferResult, code: str, meta: tuple[str | None, str | None]
) -> None:
    async with serving(Books(result)) as client:
        with pytest.raises(api.TwirpError) as failed:
            await client.transfer_sip_participant(asked())
    error = failed.value
    assert error.code == code
    assert (error.metadata.get("sip_status_code"), error.metadata.get("sip_transfer_reason")) == meta
    if meta[1] is not None:
        assert isinstance(error, api.SipCallError)
        assert error.sip_transfer_id == "STR_abcdefghijkm"


@pytest.mark.parametrize(
    ("result", "reason"),
    [(TransferResult(True, 200), sip.STR_COMPLETED), (TransferResult(False, None, "", TransferFailure.CALL_ENDED), sip.STR_CALL_ENDED)],
)
async def test_given_a_transfer_that_works_then_livekits_client_reads_the_answer(result: TransferResult, reason: int) -> None:
    async with serving(Books(result)) as client:
        answer = await client.transfer_sip_participant(asked())
    assert (answer.transfer_id, answer.status, answer.reason) == ("STR_abcdefghijkm", sip.STS_TRANSFER_SUCCESSFUL, reason)
    assert not answer.HasField("sip_status")


async def test_given_a_request_with_less_time_than_it_rings_then_the_caller_is_back_before_that() -> None:
    books = Books()
    async with serving(books) as client:
        headers = {
            **client._auth_header(api.VideoGrants(room_admin=True, room=ROOM), sip=api.SIPGrants(call=True)),
            "X-Twirp-Timeout-Ms": "9000",
        }
        await client._client.request("SIP", "TransferSIPParticipant", asked(), headers, sip.TransferSIPParticipantResponse)
    ((_, _, _, limit, _),) = books.orders
    assert 8.0 < limit < 9.0


async def test_given_rooms_that_cannot_be_asked_then_it_is_said() -> None:
    async def away(_room: str, _identity: str) -> bool:
        raise Unavailable("LiveKit cannot be reached")

    async with serving(Books(), is_there=away) as client:
        with pytest.raises(api.TwirpError, match="LiveKit cannot be reached") as failed:
            await client.transfer_sip_participant(asked(identity="somebody"))
    assert failed.value.code == "unavailable"


@asynccontextmanager
async def serving(books: Books, is_there: Callable[[str, str], Awaitable[bool]] = nobody_else) -> AsyncIterator[Any]:
    methods = Transfers(books, ALLOWED, lambda: "abcdefghijkm", is_there).methods()
    app = web.Application()
    twirp = Twirp([Service(sip.DESCRIPTOR.services_by_name["SIP"], methods)], Keys({"devkey": SecretStr(SECRET)}))
    app.router.add_route("*", "/{path:.*}", twirp.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with api.LiveKitAPI(f"http://127.0.0.1:{runner.addresses[0][1]}", "devkey", SECRET) as client:
            yield client.sip
    finally:
        await runner.cleanup()


# With a call that is told


def told(story: Callable[[Stage, FakeLeg, Callable[..., Awaitable[Any]], Any], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with stage() as on:
            leg = on.pbx.call(CALLER)
            await on.talking(leg)
            (call,) = on.registry.calls()
            may = Grants(sip_call=True, room_admin=True, room=call.room)

            async def transfer(**more: Any) -> Any:
                return await transfers(on.registry)(asked(room=call.room, identity=call.identity, **more), may)

            await story(on, leg, transfer, call)

    travel(whole())


def test_given_a_call_when_the_target_takes_it_then_it_is_over_here() -> None:
    async def story(on: Stage, leg: FakeLeg, transfer: Callable[..., Awaitable[Any]], _call: Any) -> None:
        leg.transfer_outcome.set_result(TransferResult(ok=True, sip_status=200))
        answer = await transfer(play_dialtone=True)
        assert answer.status == sip.STS_TRANSFER_SUCCESSFUL
        assert "transfer <sip:desk@example.net> with a tone" in leg.said
        assert (await on.until_over()).end_reason is EndReason.TRANSFERRED

    told(story)


def test_given_a_call_when_nobody_takes_it_then_canceled_and_the_caller_is_back() -> None:
    async def story(on: Stage, leg: FakeLeg, transfer: Callable[..., Awaitable[Any]], _call: Any) -> None:
        with pytest.raises(TwirpError) as failed:
            await transfer(ringing_timeout=Duration(seconds=5))
        assert failed.value.code is Code.CANCELED
        await on.until(lambda: leg.said.count("connect") == 2)
        leg.caller_hangs_up()
        assert (await on.until_over()).end_reason is EndReason.HANGUP

    told(story)


def test_given_a_call_that_is_hung_up_meanwhile_then_that_counts_as_done() -> None:
    async def story(on: Stage, _leg: FakeLeg, transfer: Callable[..., Awaitable[Any]], call: Any) -> None:
        asking = asyncio.ensure_future(transfer())
        await asyncio.sleep(1)
        on.registry.hang_up(call.call_id)
        assert (await asking).reason == sip.STR_CALL_ENDED
        await on.until_over()

    told(story)


def test_given_who_asked_goes_away_then_the_caller_is_handed_on_all_the_same_and_who_asks_again_shares_it() -> None:
    async def story(on: Stage, leg: FakeLeg, transfer: Callable[..., Awaitable[Any]], _call: Any) -> None:
        asking = asyncio.ensure_future(transfer())
        await on.until(lambda: "transfer <sip:desk@example.net>" in leg.said)
        asking.cancel()
        await asyncio.wait({asking})
        again = asyncio.ensure_future(transfer())
        await asyncio.sleep(1)
        assert (asking.cancelled(), again.done()) == (True, False)
        leg.transfer_outcome.set_result(TransferResult(ok=True, sip_status=200))
        assert (await again).status == sip.STS_TRANSFER_SUCCESSFUL
        assert leg.said.count("transfer <sip:desk@example.net>") == 1
        assert (await on.until_over()).end_reason is EndReason.TRANSFERRED

    told(story)


def test_given_a_call_that_rings_then_it_is_not_established() -> None:
    async def story() -> None:
        async with stage() as on:
            on.pbx.call(CALLER)
            await asyncio.sleep(1)
            (call,) = on.registry.calls()
            may = Grants(sip_call=True, room_admin=True, room=call.room)
            with pytest.raises(TwirpError) as failed:
                await transfers(on.registry)(asked(room=call.room, identity=call.identity), may)
            assert failed.value.code is Code.FAILED_PRECONDITION

    travel(story())
