"""Twirp as LiveKit speaks it (livekit-sip-semantics.md §0.1): routes, both encodings, errors, limits."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import structlog
from aiohttp import web
from livekit import api
from livekit.protocol import sip
from pydantic import SecretStr

from bridge.api import twirp as twirp_module
from bridge.api.auth import Grants, Keys
from bridge.api.twirp import BODY_LIMIT, Code, Method, Patience, Service, Twirp, TwirpError, to_json
from bridge.errors import Unavailable

SECRET = "a-secret-of-thirty-two-characters!"
PATH = "/twirp/livekit.SIP/CreateSIPInboundTrunk"
JSON = {"Content-Type": "application/json"}
DESCRIPTOR = sip.DESCRIPTOR.services_by_name["SIP"]


async def echo(asked: sip.CreateSIPInboundTrunkRequest, grants: Grants | None) -> sip.SIPInboundTrunkInfo:
    if grants is None or not grants.sip_admin:
        raise TwirpError(Code.UNAUTHENTICATED, "permissions denied")
    return asked.trunk


async def fail(asked: sip.SIPDispatchRuleInfo, _grants: Grants | None) -> sip.SIPDispatchRuleInfo:
    raise ZeroDivisionError("a fault")


async def away(asked: sip.ListSIPInboundTrunkRequest, _grants: Grants | None) -> sip.ListSIPInboundTrunkResponse:
    raise Unavailable("the store is away")


async def slow(asked: sip.ListSIPDispatchRuleRequest, _grants: Grants | None) -> sip.ListSIPDispatchRuleResponse:
    await asyncio.sleep(60)
    raise AssertionError("nobody waits that long")


async def late(_asked: sip.UpdateSIPOutboundTrunkRequest, _grants: Grants | None) -> sip.SIPOutboundTrunkInfo:
    raise TwirpError(Code.UNKNOWN, "found too late")


METHODS: dict[str, Method] = {
    "CreateSIPInboundTrunk": echo,
    "CreateSIPDispatchRule": fail,
    "ListSIPInboundTrunk": away,
    "ListSIPDispatchRule": slow,
    "ListSIPOutboundTrunk": slow,
    "UpdateSIPOutboundTrunk": late,
}


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    twirp = Twirp(
        [Service(DESCRIPTOR, METHODS, {"ListSIPOutboundTrunk": lambda _: Patience(0.05, 0.2)})], Keys({"devkey": SecretStr(SECRET)})
    )
    app = web.Application(client_max_size=BODY_LIMIT + 1)
    app.router.add_route("*", "/{path:.*}", twirp.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        token = api.AccessToken("devkey", SECRET).with_sip_grants(api.SIPGrants(admin=True)).to_jwt()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {token}"}) as session:
            yield session
    finally:
        await runner.cleanup()


async def post(client: aiohttp.ClientSession, path: str = PATH, data: Any = b"{}", **headers: str) -> tuple[int, Any]:
    async with client.post(path, data=data, headers=JSON | headers) as answer:
        text = await answer.text()
        return answer.status, json.loads(text) if "json" in answer.content_type else text


async def test_given_json_in_either_spelling_then_snake_case_with_every_field_out(client: aiohttp.ClientSession) -> None:
    body = {
        "trunk": {"name": "a", "authUsername": "u", "max_call_duration": "12.5s", "includeHeaders": "SIP_ALL_HEADERS", "later": {"x": 1}}
    }
    status, found = await post(client, data=json.dumps(body))
    assert status == 200
    assert (found["name"], found["auth_username"], found["max_call_duration"]) == ("a", "u", "12.500s")
    assert found["include_headers"] == "SIP_ALL_HEADERS"
    assert (found["numbers"], found["headers"], found["krisp_enabled"], found["auth_password"]) == ([], {}, False, "")
    assert (found["media"], found["ringing_timeout"], found["created_at"]) == (None, None, None)


async def test_given_protobuf_then_protobuf(client: aiohttp.ClientSession) -> None:
    asked = sip.CreateSIPInboundTrunkRequest(trunk=sip.SIPInboundTrunkInfo(name="ä", numbers=["+1"]))
    async with client.post(PATH, data=asked.SerializeToString(), headers={"Content-Type": "Application/Protobuf; charset=x"}) as answer:
        assert (answer.status, answer.content_type) == (200, "application/protobuf")
        assert sip.SIPInboundTrunkInfo.FromString(await answer.read()) == asked.trunk


def test_given_messages_in_lists_maps_and_oneofs_then_what_is_not_there_is_null_or_left_out() -> None:
    rule = sip.SIPDispatchRule(dispatch_rule_direct=sip.SIPDispatchRuleDirect(room_name="r"))
    written = to_json(sip.ListSIPDispatchRuleResponse(items=[sip.SIPDispatchRuleInfo(rule=rule), sip.SIPDispatchRuleInfo()]))
    first, second = written["items"]
    assert first["rule"] == {"dispatch_rule_direct": {"room_name": "r", "pin": ""}}
    assert (second["rule"], second["room_config"], second["attributes"]) == (None, None, {})


@pytest.mark.parametrize(
    ("verb", "path", "kind"),
    [
        ("GET", PATH, "application/json"),
        ("PUT", PATH, "application/json"),
        ("POST", "/twirp/livekit.SIP/CreateSIPTrunk", "application/json"),
        ("POST", PATH, "text/plain"),
        ("POST", PATH, "application/x-protobuf"),
    ],
)
async def test_given_no_such_route_then_bad_route(client: aiohttp.ClientSession, verb: str, path: str, kind: str) -> None:
    async with client.request(verb, path, data=b"{}", headers={"Content-Type": kind}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (404, "bad_route")


async def test_given_no_such_service_then_a_plain_404_as_of_livekits_http_server(client: aiohttp.ClientSession) -> None:
    for path in ("/twirp/livekit.Sip/CreateSIPInboundTrunk", "/elsewhere/livekit.SIP/CreateSIPInboundTrunk", "/twirp/"):
        async with client.post(path, json={}) as answer:
            assert (answer.status, answer.content_type) == (404, "text/plain")


async def test_given_a_leading_slash_too_many_then_it_is_one(client: aiohttp.ClientSession) -> None:
    async with aiohttp.ClientSession(headers=client.headers) as plain:
        assert (await post(plain, f"{str(client._base_url).rstrip('/')}/{PATH}"))[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"trunk": 7}',
        b'{"trunk": {"name": 7}}',
        b"[" * 200_000,
        b'{"trunk":' * 50_000,
        b'{"trunk": NaN}',
        b'"\\ud800"',
    ],
)
async def test_given_a_body_that_is_none_then_malformed(client: aiohttp.ClientSession, body: bytes) -> None:
    status, found = await post(client, data=body)
    assert (status, found["code"]) == (400, "malformed")
    assert "meta" not in found


async def test_given_broken_protobuf_then_malformed_and_the_error_is_json(client: aiohttp.ClientSession) -> None:
    status, found = await post(client, data=b"\xff\xff\xff", **{"Content-Type": "application/protobuf"})
    assert (status, found["code"]) == (400, "malformed")


@pytest.mark.parametrize(
    "request_",
    [
        "Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "Content-Length: 10\r\nContent-Encoding: deflate\r\n\r\n0123456789",
    ],
    ids=["no gzip", "no deflate"],
)
async def test_given_a_body_that_is_not_what_its_headers_say_then_malformed(client: aiohttp.ClientSession, request_: str) -> None:
    assert client._base_url is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", client._base_url.port)
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    writer.write((head + f"Authorization: {client.headers['Authorization']}\r\n" + request_).encode())
    with structlog.testing.capture_logs() as logs:
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400"), answer
    assert b'"code": "malformed"' in answer
    assert logs == []


async def test_given_a_body_over_the_limit_then_413_in_plain_text(client: aiohttp.ClientSession) -> None:
    assert (await post(client, data=io.BytesIO(b" " * BODY_LIMIT)))[0] == 400
    status, found = await post(client, data=io.BytesIO(b" " * (BODY_LIMIT + 1)))
    assert (status, isinstance(found, str)) == (413, True)


async def test_given_a_token_that_is_none_then_401_in_plain_text_before_anything_else(client: aiohttp.ClientSession) -> None:
    for path in (PATH, "/twirp/nowhere"):
        status, found = await post(client, path, Authorization="Bearer forged")
        assert (status, found) == (401, "invalid authorization token\n")


async def test_given_no_token_then_the_method_answers(client: aiohttp.ClientSession) -> None:
    url = client._base_url
    async with aiohttp.ClientSession(url) as stranger:
        assert await post(stranger) == (401, {"code": "unauthenticated", "msg": "permissions denied"})


async def test_given_a_fault_of_ours_then_internal_with_an_id_that_stands_in_the_log(client: aiohttp.ClientSession) -> None:
    with structlog.testing.capture_logs() as logs:
        status, found = await post(client, "/twirp/livekit.SIP/CreateSIPDispatchRule")
    assert (status, found["code"]) == (500, "internal")
    assert [entry["error_id"] for entry in logs] == [found["meta"]["error_id"]]
    assert "ZeroDivision" not in json.dumps(found)


@pytest.mark.parametrize("where", ["_read", "_written", "_body_is_read", "_grants"])
async def test_given_a_fault_of_ours_anywhere_then_internal_with_an_id_that_stands_in_the_log(
    client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a fault")

    for place, name in {
        "_read": (twirp_module, "_read"),
        "_written": (twirp_module, "_written"),
        "_body_is_read": (twirp_module, "read_body"),
        "_grants": (Keys, "grants"),
    }.items():
        if place == where:
            monkeypatch.setattr(*name, broken)
    with structlog.testing.capture_logs() as logs:
        status, found = await post(client)
    assert (status, found["code"]) == (500, "internal")
    assert [entry["error_id"] for entry in logs] == [found["meta"]["error_id"]]


async def test_given_an_answer_that_is_500_by_its_code_then_it_has_an_id_too(client: aiohttp.ClientSession) -> None:
    with structlog.testing.capture_logs() as logs:
        status, found = await post(client, "/twirp/livekit.SIP/UpdateSIPOutboundTrunk")
    assert (status, found["code"], found["msg"]) == (500, "unknown", "found too late")
    assert [(entry["error_id"], entry["why"]) for entry in logs] == [(found["meta"]["error_id"], "found too late")]


async def test_given_a_method_with_a_time_of_its_own_then_that_counts(client: aiohttp.ClientSession) -> None:
    for said in ("", "100000"):
        status, found = await post(client, "/twirp/livekit.SIP/ListSIPOutboundTrunk", **{"X-Twirp-Timeout-Ms": said})
        assert (status, found["code"]) == (408, "deadline_exceeded")
    assert found["msg"].endswith("took longer than 0.2 s")


async def test_given_other_ends_then_their_codes(client: aiohttp.ClientSession) -> None:
    assert await post(client, "/twirp/livekit.SIP/ListSIPInboundTrunk") == (503, {"code": "unavailable", "msg": "the store is away"})
    assert (await post(client, "/twirp/livekit.SIP/DeleteSIPTrunk"))[0] == 501
    status, found = await post(client, "/twirp/livekit.SIP/ListSIPDispatchRule", **{"X-Twirp-Timeout-Ms": "50"})
    assert (status, found["code"]) == (408, "deadline_exceeded")


async def test_given_a_browser_then_any_origin_may_ask(client: aiohttp.ClientSession) -> None:
    asked = {"Origin": "https://example.com", "Access-Control-Request-Headers": "authorization"}
    async with client.options(PATH, headers=asked) as answer:
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (204, "*")
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        assert answer.headers["Access-Control-Allow-Headers"] == "authorization"
    async with client.post(PATH, data=b"{}", headers=JSON | {"Origin": "https://example.com"}) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == "*"


def test_given_a_method_that_the_service_has_not_then_it_is_found_at_the_start() -> None:
    with pytest.raises(ValueError, match="Nonsense"):
        Twirp([Service(DESCRIPTOR, {"Nonsense": echo})], Keys({}))
