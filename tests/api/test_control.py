"""Roomline's own API: who may ask what, what is shown, and what wrong requests get. A live call is in tests/real."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
import structlog
from aiohttp import web
from pydantic import SecretStr

from bridge.api.auth import Grants, Keys, make_token
from bridge.api.control import BODY_LIMIT, LONGEST_PAGE, PREFIX, Control, Parts
from bridge.api.transfer import Transfers, nobody_else
from bridge.call.registry import NoSuchCall
from bridge.dispatch.directory import Directory
from bridge.dispatch.explain import Explanation, explain
from bridge.errors import ConfigurationError, Unavailable
from bridge.model.caller import Caller
from bridge.model.ending import EndedBy, EndReason
from bridge.model.note import CallState
from bridge.model.record import CallRecord, LiveCall
from bridge.model.rule import DispatchRule
from bridge.model.target import AllowedTargets
from bridge.pbx.port import TransferFailure, TransferResult
from bridge.testing.fakes import MemoryStore

SECRET = SecretStr("a-secret-of-thirty-two-characters!")
PIN = "80428617"
ADMIN = Grants(identity="ops", sip_admin=True)
ROOMS_ADMIN = Grants(sip_call=True, room_admin=True, room="lobby")


def live(call_id: str, **more: Any) -> LiveCall:
    facts: dict[str, Any] = {"pbx": "hq", "leg_id": "1", "started_at": 5.0, "state": CallState.TALKING, "answered": True, "room": "lobby"}
    return LiveCall.model_validate({"call_id": call_id} | facts | more)


def record(call_id: str, ended_at: float, **more: Any) -> CallRecord:
    facts: dict[str, Any] = {"pbx": "hq", "leg_id": "1", "started_at": 1.0, "end_reason": EndReason.HANGUP, "ended_by": EndedBy.CALLER}
    return CallRecord.model_validate({"call_id": call_id, "ended_at": ended_at} | facts | more)


@dataclass
class World:
    """What stands behind the API, as a test wants it."""

    live: dict[str, LiveCall] = field(default_factory=dict)
    hung_up: list[str] = field(default_factory=list)
    orders: list[tuple[str, str, dict[str, str], float, bool]] = field(default_factory=list)
    result: TransferResult = field(default_factory=lambda: TransferResult(ok=True))
    is_ready: bool = True
    wrong: Exception | None = None

    def calls(self) -> Sequence[LiveCall]:
        return list(self.live.values())

    def call(self, call_id: str) -> LiveCall:
        try:
            return self.live[call_id]
        except KeyError:
            raise NoSuchCall(f"no live call has the id {call_id!r}") from None

    def hang_up(self, call_id: str) -> None:
        self.call(call_id)
        self.hung_up.append(call_id)

    async def transfer(
        self, call_id: str, to: str, headers: Mapping[str, str] | None = None, timeout: float = 30.0, *, dial_tone: bool = False
    ) -> TransferResult:
        self.call(call_id)
        self.orders.append((call_id, to, dict(headers or {}), timeout, dial_tone))
        return self.result

    async def look(self) -> tuple[bool, dict[str, Any]]:
        return self.is_ready, {"ready": self.is_ready, "pbx": {"hq": {"connected": self.is_ready}}}

    async def explain(self, caller: Caller, pin: str | None) -> Explanation:
        if self.wrong is not None:
            raise self.wrong
        rule = DispatchRule.model_validate(
            {"sip_dispatch_rule_id": "SDR_a", "rule": {"dispatch_rule_direct": {"room_name": "r", "pin": PIN}}}
        )
        return explain(Directory((), (rule,), ()), caller, room_suffix=lambda: "x", pin=pin or None, no_pin=pin == "")

    async def reload(self) -> Mapping[str, int]:
        if self.wrong is not None:
            raise self.wrong
        return {"trunks": 1, "rules": 2, "numbers": 3}


class Client:
    """Asks as somebody with these grants."""

    def __init__(self, session: aiohttp.ClientSession, url: str, world: World, store: MemoryStore) -> None:
        self._session = session
        self.url = url
        self.world = world
        self.store = store

    async def ask(self, verb: str, path: str, body: Any = None, grants: Grants | None = ADMIN, **more: Any) -> tuple[int, Any]:
        """Status and the JSON of the answer."""
        headers = {"Authorization": f"Bearer {make_token('devkey', SECRET, grants, 60)}"} if grants else {}
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        async with self._session.request(
            verb, self.url + path, data=data, headers={**headers, **more.pop("headers", {})}, **more
        ) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    world, store = World(), MemoryStore()
    transfers = Transfers(world, AllowedTargets(["*@example.net"]), lambda: "abcdefghijkm", nobody_else)
    control = Control(Keys({"devkey": SECRET}), Parts(world, store, transfers, world, world.explain, world.reload))
    app = web.Application()
    app.add_routes(control.routes())
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession() as session:
            yield Client(session, f"http://127.0.0.1:{runner.addresses[0][1]}{PREFIX}", world, store)
    finally:
        await runner.cleanup()


async def test_given_a_body_that_is_not_what_its_headers_say_then_malformed(client: Client) -> None:
    for path in ("/explain", "/reload"):
        status, body = await client.ask("POST", path, b"no gzip at all", headers={"Content-Encoding": "gzip"})
        assert (status, body["code"]) == (400, "malformed")


# Who may


READING = [("GET", "/calls"), ("GET", "/calls/SCL_a"), ("GET", "/records"), ("POST", "/explain"), ("POST", "/reload")]
DOING = [("POST", "/calls/SCL_a/hangup"), ("POST", "/calls/SCL_a/transfer")]


@pytest.mark.parametrize(("verb", "path"), READING + DOING)
async def test_given_no_token_then_nobody_is_served(client: Client, verb: str, path: str) -> None:
    client.world.live["SCL_a"] = live("SCL_a")
    status, body = await client.ask(verb, path, grants=None)
    assert (status, body["code"]) == (401, "unauthenticated")
    for bad in (
        "Bearer x",
        "Basic eDp5",
        f"Bearer {make_token('other', SECRET, ADMIN, 60)}",
        f"Bearer {make_token('devkey', SECRET, ADMIN, -120)}",
    ):
        status, body = await client.ask(verb, path, grants=None, headers={"Authorization": bad})
        assert (status, body["code"]) == (401, "unauthenticated")
    assert (client.world.hung_up, client.world.orders) == ([], [])


@pytest.mark.parametrize(
    "grants",
    [Grants(), Grants(sip_call=True), ROOMS_ADMIN, Grants(room_admin=True, room="lobby")],
    ids=["none", "call", "room", "room alone"],
)
@pytest.mark.parametrize(("verb", "path"), READING)
async def test_given_a_token_without_sip_admin_then_it_reads_nothing(client: Client, verb: str, path: str, grants: Grants) -> None:
    status, body = await client.ask(verb, path, {}, grants)
    assert (status, body["code"], "sip.admin" in body["message"]) == (403, "permission_denied", True)


@pytest.mark.parametrize(
    ("grants", "status"),
    [
        (Grants(), 403),
        (Grants(sip_call=True), 403),
        (Grants(room_admin=True, room="lobby"), 403),
        (Grants(sip_call=True, room_admin=True, room="other"), 403),
        (Grants(sip_call=True, room_admin=True), 403),
        (ROOMS_ADMIN, 200),
        (ADMIN, 200),
    ],
)
async def test_given_a_token_for_the_calls_room_then_it_hangs_up_and_hands_on_there_alone(
    client: Client, grants: Grants, status: int
) -> None:
    client.world.live["SCL_a"] = live("SCL_a")
    done, _ = await client.ask("POST", "/calls/SCL_a/transfer", {"to": "sip:a@example.net"}, grants)
    assert done == status
    done, _ = await client.ask("POST", "/calls/SCL_a/hangup", None, grants)
    assert done == (202 if status == 200 else status)
    assert bool(client.world.orders) is bool(client.world.hung_up) is (status == 200)


async def test_given_a_call_without_a_room_yet_then_no_rooms_admin_has_it(client: Client) -> None:
    client.world.live["SCL_a"] = live("SCL_a", room="", state=CallState.PIN)
    status, _ = await client.ask("POST", "/calls/SCL_a/hangup", None, Grants(sip_call=True, room_admin=True, room=""))
    assert (status, client.world.hung_up) == (403, [])


# Calls and records


async def test_given_live_calls_then_they_are_shown_the_oldest_first(client: Client) -> None:
    assert await client.ask("GET", "/calls") == (200, {"calls": []})
    client.world.live = {name: live(name, started_at=start) for name, start in (("SCL_b", 7.0), ("SCL_a", 6.0))}
    _, body = await client.ask("GET", "/calls")
    assert [call["call_id"] for call in body["calls"]] == ["SCL_a", "SCL_b"]
    assert (body["calls"][0]["state"], body["calls"][0]["answered"]) == ("talking", True)


async def test_given_a_call_then_it_is_shown_with_its_trace_while_it_lives_and_after(client: Client) -> None:
    trace = {"decision": {"summary": "rule SDR_a", "candidates": []}}
    client.world.live["SCL_a"] = live("SCL_a", trace=trace)
    status, body = await client.ask("GET", "/calls/SCL_a")
    assert (status, body["state"], body["trace"], "ended_at" in body) == (200, "talking", trace, False)
    client.world.live.clear()
    await client.store.keep_record(ended := record("SCL_a", 9.0, trace=trace, number="\ud83d"))
    status, body = await client.ask("GET", "/calls/SCL_a")
    assert (status, CallRecord.model_validate(body)) == (200, ended)
    status, body = await client.ask("GET", "/calls/SCL_nobody")
    assert (status, body["code"]) == (404, "not_found")


async def test_given_records_then_those_asked_for_come_in_pages(client: Client) -> None:
    for number in range(5):
        await client.store.keep_record(record(f"SCL_{number}", float(number), room="a" if number % 2 else "b", number="+1"))
    pages, after = [], None
    while True:
        _, body = await client.ask("GET", "/records", params={"limit": "2", **({"after_id": after} if after else {})})
        pages.append([each["call_id"] for each in body["records"]])
        if (after := body["next_after_id"]) is None:
            break
    assert pages == [["SCL_4", "SCL_3"], ["SCL_2", "SCL_1"], ["SCL_0"]]
    _, body = await client.ask("GET", "/records", params={"room": "b", "number": "+1", "since": "1", "end_reason": "hangup"})
    assert [each["call_id"] for each in body["records"]] == ["SCL_4", "SCL_2"]
    assert body["next_after_id"] is None


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("limit=0", "limit"),
        (f"limit={LONGEST_PAGE + 1}", "limit"),
        ("limit=many", "limit"),
        ("after_id=SCL_nobody", "after_id"),
        ("end_reason=boredom", "end_reason"),
        ("since=nan", "since"),
        ("roomm=x", "roomm: there is no such field"),
    ],
)
async def test_given_a_wrong_filter_then_the_error_names_it(client: Client, query: str, says: str) -> None:
    status, body = await client.ask("GET", f"/records?{query}")
    assert (status, body["code"], says in body["message"]) == (400, "invalid_argument", True), body


# What is done with a call


async def test_given_a_transfer_then_the_call_is_asked_for_what_it_says(client: Client) -> None:
    client.world.live["SCL_a"] = live("SCL_a")
    wanted = {"to": "<sip:a@example.net>", "headers": {"X-A": "b"}, "play_dialtone": True, "ringing_timeout": 7}
    assert await client.ask("POST", "/calls/SCL_a/transfer", wanted) == (200, {"call_id": "SCL_a", "transfer_id": "STR_abcdefghijkm"})
    assert client.world.orders == [("SCL_a", "<sip:a@example.net>", {"X-A": "b"}, 7.0, True)]


@pytest.mark.parametrize(
    ("result", "status", "body"),
    [
        (TransferResult(False, 486), 429, {"code": "resource_exhausted", "transfer_id": "STR_abcdefghijkm", "sip_status": 486}),
        (TransferResult(False, 603), 403, {"code": "permission_denied", "transfer_id": "STR_abcdefghijkm", "sip_status": 603}),
        (TransferResult(False, None, "x", TransferFailure.TIMED_OUT), 408, {"code": "canceled", "transfer_id": "STR_abcdefghijkm"}),
        (TransferResult(False, None, "x", TransferFailure.NOT_TALKING), 412, {"code": "failed_precondition"}),
    ],
)
async def test_given_a_transfer_that_fails_then_the_error_says_how(
    client: Client, result: TransferResult, status: int, body: dict[str, Any]
) -> None:
    client.world.live["SCL_a"], client.world.result = live("SCL_a"), result
    found, said = await client.ask("POST", "/calls/SCL_a/transfer", {"to": "sip:a@example.net"})
    assert found == status
    assert said.pop("message")
    assert said == body


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        (None, "invalid_argument", "to: "),
        ({"to": 5}, "invalid_argument", "to: "),
        ({"to": "sip:a@example.net", "ringing_timeout": -1}, "invalid_argument", "ringing_timeout"),
        ({"to": "sip:a@example.net", "headers": {"X": 1}}, "invalid_argument", "headers.X"),
        ({"to": "sip:a@example.net", "headers": {"Via": "x\r\ny"}}, "invalid_argument", "control character"),
        ({"to": "sip:a@example.net", "dialtone": True}, "invalid_argument", "dialtone: there is no such field"),
        ({"to": "sip:a@example.org"}, "permission_denied", "outbound.allow"),
        ({"to": "sip:a,b@example.net"}, "invalid_argument", "transfer_to"),
        ([], "malformed", "object"),
        (b"{", "malformed", "JSON"),
        (b"\xff\xfe", "malformed", "JSON"),
        (b"[" * 60_000, "malformed", "JSON"),
        (b'{"to": "' + b"x" * BODY_LIMIT + b'"}', "resource_exhausted", "larger"),
    ],
)
async def test_given_a_wrong_body_then_it_is_refused_and_nothing_done(client: Client, body: Any, code: str, says: str) -> None:
    client.world.live["SCL_a"] = live("SCL_a")
    _, said = await client.ask("POST", "/calls/SCL_a/transfer", body)
    assert (said["code"], says in said["message"]) == (code, True), said
    assert client.world.orders == []


@pytest.mark.parametrize("what", ["hangup", "transfer"])
async def test_given_a_call_that_is_over_then_it_is_not_found(client: Client, what: str) -> None:
    await client.store.keep_record(record("SCL_a", 9.0))
    status, body = await client.ask("POST", f"/calls/SCL_a/{what}", {"to": "sip:a@example.net"} if what == "transfer" else None)
    assert (status, body["code"]) == (404, "not_found")


# What decides calls


async def test_given_a_call_to_explain_then_the_answer_is_the_command_lines_and_holds_no_pin(client: Client) -> None:
    status, body = await client.ask("POST", "/explain", {"from": "+1", "to": "+2", "source_ip": "192.0.2.1"})
    assert (status, body["decision"], body["call"]["from"], body["rules"][0]["id"]) == (200, "ask_pin", "+1", "SDR_a")
    for pin, decision in ((PIN, "accept"), ("1234", "refuse"), ("", "refuse")):
        _, body = await client.ask("POST", "/explain", {"from": "+1", "to": "+2", "pin": pin})
        assert body["decision"] == decision
        assert PIN not in json.dumps(body)
    _, body = await client.ask("POST", "/explain", {"from": "+1", "to": "+2", "pin": [PIN]})
    assert (body["code"], PIN in body["message"]) == ("invalid_argument", False)


async def test_given_a_reload_then_it_says_what_decides_or_what_is_wrong(client: Client) -> None:
    assert await client.ask("POST", "/reload") == (200, {"trunks": 1, "rules": 2, "numbers": 3})
    for wrong, code in (
        (ConfigurationError("roomline.yaml:3: calls: no"), "failed_precondition"),
        (Unavailable("the store"), "unavailable"),
    ):
        client.world.wrong = wrong
        _, body = await client.ask("POST", "/reload")
        assert (body["code"], body["message"]) == (code, str(wrong))


async def test_given_health_then_everybody_is_told_whether_and_administrators_why(client: Client) -> None:
    assert await client.ask("GET", "/health", grants=None) == (200, {"status": "ok"})
    assert await client.ask("GET", "/ready", grants=None) == (200, {"ready": True})
    client.world.is_ready = False
    assert await client.ask("GET", "/ready", grants=None) == (503, {"ready": False})
    assert await client.ask("GET", "/ready", grants=ROOMS_ADMIN) == (503, {"ready": False})
    assert await client.ask("GET", "/ready") == (503, {"ready": False, "pbx": {"hq": {"connected": False}}})


# Everything else


async def test_given_a_fault_of_ours_then_its_id_stands_in_the_log(client: Client) -> None:
    client.world.wrong = ZeroDivisionError("a secret")
    with structlog.testing.capture_logs() as logs:
        status, body = await client.ask("POST", "/explain", {"from": "+1", "to": "+2"})
    assert (status, body["code"], "a secret" in json.dumps(body)) == (500, "internal", False)
    assert [entry["error_id"] for entry in logs] == [body["error_id"]]


@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/callz", 404),
        ("GET", "/calls/a/b/c", 404),
        ("POST", "/calls", 405),
        ("GET", "/calls/SCL_a/hangup", 405),
        ("DELETE", "/calls/SCL_a", 405),
    ],
)
async def test_given_an_unknown_path_or_verb_then_a_json_error(client: Client, verb: str, path: str, status: int) -> None:
    found, body = await client.ask(verb, path)
    assert (found, body["code"]) == (status, "bad_route")


async def test_given_a_page_of_another_origin_then_it_may_ask_with_a_token(client: Client) -> None:
    origin = {"Origin": "https://example.com", "Access-Control-Request-Headers": "authorization"}
    async with client._session.options(f"{client.url}/calls", headers=origin) as answer:
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (204, "*")
    async with client._session.get(f"{client.url}/calls", headers={"Origin": "https://example.com"}) as answer:
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"], answer.headers["WWW-Authenticate"]) == (401, "*", "Bearer")


async def test_given_a_body_that_never_ends_then_the_others_are_served_meanwhile(client: Client) -> None:
    client.world.live["SCL_a"] = live("SCL_a")
    ending = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"{"
        await ending.wait()
        yield b"}"

    headers = {"Authorization": f"Bearer {make_token('devkey', SECRET, ADMIN, 60)}"}

    async def hang_up() -> int:
        async with client._session.post(f"{client.url}/calls/SCL_a/hangup", data=slowly(), headers=headers) as answer:
            return answer.status

    asking = asyncio.create_task(hang_up())
    assert (await client.ask("GET", "/calls"))[0] == 200
    assert client.world.hung_up == []
    ending.set()
    assert (await asking, client.world.hung_up) == (202, ["SCL_a"])
