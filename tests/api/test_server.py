"""The server that LiveKit's API and our own share."""

import socket

import aiohttp
import pytest
from aiohttp import web
from livekit import api
from livekit.protocol import sip
from pydantic import SecretStr

from bridge.api.auth import Keys
from bridge.api.server import serve_api
from bridge.api.twirp import Service, Twirp
from bridge.errors import ConfigurationError

SECRET = "a-secret-of-thirty-two-characters!"


async def _listed(_asked: object, _grants: object) -> sip.ListSIPDispatchRuleResponse:
    return sip.ListSIPDispatchRuleResponse()


async def _hello(_request: web.Request) -> web.Response:
    return web.Response(text="hello")


def twirp() -> Twirp:
    return Twirp([Service(sip.DESCRIPTOR.services_by_name["SIP"], {"ListSIPDispatchRule": _listed})], Keys({"key": SecretStr(SECRET)}))


async def test_given_livekits_client_and_others_then_each_gets_what_it_asks_for() -> None:
    async with serve_api(twirp(), [[web.get("/roomline/hello", _hello)]], "127.0.0.1", 0) as port:
        url = f"http://127.0.0.1:{port}"
        async with api.LiveKitAPI(url, "key", SECRET) as client:
            assert not (await client.sip.list_dispatch_rule(sip.ListSIPDispatchRuleRequest())).items
        token = api.AccessToken("key", SECRET).to_jwt()
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
            for slashes in ("/", "//"):
                async with session.post(f"{url}{slashes}twirp/livekit.SIP/ListSIPDispatchRule", json={}) as answer:
                    assert await answer.json() == {"items": []}
            async with session.get(f"{url}/roomline/hello") as answer:
                assert await answer.text() == "hello"
            async with session.get(f"{url}/elsewhere") as answer:
                assert answer.status == 404
            async with session.post(f"{url}/twirp/livekit.SIP/Ever", json={}) as answer:
                assert (answer.status, (await answer.json())["code"]) == (404, "bad_route")


async def test_given_an_address_that_is_taken_then_the_error_names_the_key() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigurationError, match=r"api\.listen: 127\.0\.0\.1:\d+ cannot be had"):
            async with serve_api(twirp(), (), *taken.getsockname()):
                pass
