"""What LiveKit's API carries: rules created one per meeting until there are many, then single ones created, changed, listed and deleted.

    ./run bench api [--rules 10000] [--store sqlite|redis] [--at-once 8]

A server of its own, asked over HTTP in protobuf as LiveKit's SDKs do, by several clients at once. The server and the clients share the
machine. The last line is JSON: requests a second, and milliseconds at p50 and p99, of each kind of request.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from livekit.api import AccessToken, SIPGrants
from livekit.protocol import sip

from bridge.testing.child import Child
from bridge.testing.ports import LOOPBACK, free_port
from bridge.testing.redis_server import RedisServer
from tests.bench.report import finish, milliseconds, percentile, say

KEY, SECRET = "devkey", "a-secret-for-a-bench-on-loopback!"
READY_WITHIN = 20.0
MEASURED = 1000
LISTS = 20
STORES = ("sqlite", "redis")

Ask = Callable[[str, Any, Any], Awaitable[Any]]
"""Method, request and the class of its answer."""


async def main(rules: int, store: str, at_once: int) -> None:
    with tempfile.TemporaryDirectory(prefix="roomline-bench-") as folder:
        async with _serving(Path(folder), store) as url, _client(url) as ask:
            say(f"creating {rules} rules in {store}, {at_once} at once")
            ids = await _timed(ask, [_create(n) for n in range(max(0, rules - MEASURED))], at_once)
            figures = {}
            created = await _timed(ask, [_create(n) for n in range(max(0, rules - MEASURED), rules)], at_once)
            figures["create"] = _figures(created)
            every = [answer.sip_dispatch_rule_id for answer, _ in (*ids.answers, *created.answers)]
            say("changing, listing, deleting")
            few = every[:: max(1, len(every) // MEASURED)][:MEASURED]
            figures["update"] = _figures(await _timed(ask, [_rename(each) for each in few], at_once))
            figures["list_one"] = _figures(await _timed(ask, [_list([each]) for each in few], at_once))
            figures["list_all"] = _figures(await _timed(ask, [_list([])] * LISTS, 1))
            listed = (await _timed(ask, [_list([])], 1)).answers[0][0]
            figures["delete"] = _figures(await _timed(ask, [_delete(each) for each in few], at_once))
    finish("api", {"rules": rules, "store": store, "at_once": at_once, "listed": len(listed.items), "requests": figures})


class Timed:
    """Answers, each with its seconds, and how long all took."""

    def __init__(self, answers: list[tuple[Any, float]], seconds: float) -> None:
        self.answers = answers
        self.seconds = seconds


Request = tuple[str, Any, Any]


def _create(number: int) -> Request:
    """As a back end does it: a room and a PIN for each meeting."""
    rule = sip.SIPDispatchRule(dispatch_rule_direct=sip.SIPDispatchRuleDirect(room_name=f"meeting-{number}", pin=f"{number:08}"))
    info = sip.SIPDispatchRuleInfo(rule=rule, name=f"meeting {number}", trunk_ids=["ST_bench"])
    return "CreateSIPDispatchRule", sip.CreateSIPDispatchRuleRequest(dispatch_rule=info), sip.SIPDispatchRuleInfo


def _rename(rule_id: str) -> Request:
    update = sip.SIPDispatchRuleUpdate(metadata="later")
    return "UpdateSIPDispatchRule", sip.UpdateSIPDispatchRuleRequest(sip_dispatch_rule_id=rule_id, update=update), sip.SIPDispatchRuleInfo


def _list(ids: list[str]) -> Request:
    return "ListSIPDispatchRule", sip.ListSIPDispatchRuleRequest(dispatch_rule_ids=ids), sip.ListSIPDispatchRuleResponse


def _delete(rule_id: str) -> Request:
    return "DeleteSIPDispatchRule", sip.DeleteSIPDispatchRuleRequest(sip_dispatch_rule_id=rule_id), sip.SIPDispatchRuleInfo


async def _timed(ask: Ask, requests: list[Request], at_once: int) -> Timed:
    waiting = list(reversed(requests))
    answers: list[tuple[Any, float]] = []

    async def work() -> None:
        while waiting:
            request = waiting.pop()
            began = time.perf_counter()
            answer = await ask(*request)
            answers.append((answer, time.perf_counter() - began))

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return Timed(answers, time.perf_counter() - began)


def _figures(timed: Timed) -> dict[str, float]:
    taken = [seconds for _, seconds in timed.answers]
    return {
        "per_second": round(len(taken) / timed.seconds, 1),
        "p50_ms": milliseconds(percentile(taken, 50)),
        "p99_ms": milliseconds(percentile(taken, 99)),
    }


@asynccontextmanager
async def _client(url: str) -> AsyncIterator[Ask]:
    token = AccessToken(KEY, SECRET).with_sip_grants(SIPGrants(admin=True)).to_jwt()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/protobuf"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def ask(method: str, request: Any, answer: Any) -> Any:
            async with session.post(f"{url}/twirp/livekit.SIP/{method}", data=request.SerializeToString()) as got:
                body = await got.read()
                if got.status != 200:
                    raise RuntimeError(f"{method}: {got.status} {body.decode(errors='replace')}")
                return answer.FromString(body)

        yield ask


@asynccontextmanager
async def _serving(folder: Path, store: str) -> AsyncIterator[str]:
    """A server with no PBX."""
    if store == "redis":
        async with RedisServer(folder / "redis") as redis, _server(folder, redis.url) as url:
            yield url
    else:
        async with _server(folder, f"sqlite:///{folder / 'objects.db'}") as url:
            yield url


@asynccontextmanager
async def _server(folder: Path, store: str) -> AsyncIterator[str]:
    address = f"{LOOPBACK}:{free_port()}"
    config = folder / "roomline.yaml"
    config.touch(mode=0o600)
    config.write_text(
        yaml.safe_dump(
            {
                "pbx": [{"name": "away", "ami": {"port": 1, "secret": "nobody listens there"}}],
                "media": {"listen": f"{LOOPBACK}:0"},
                "store": store,
                "records": f"sqlite:///{folder / 'records.db'}",
                "api": {"listen": address, "keys": {KEY: SECRET}},
                "log": {"level": "warning"},
            }
        )
    )
    child = Child([sys.executable, "-m", "bridge", "serve", "--config", str(config)], log=folder / "roomline.log", folder=folder)
    await child.start()
    try:
        deadline = time.monotonic() + READY_WITHIN
        async with aiohttp.ClientSession() as session:
            while not await _answers(session, f"http://{address}/"):
                if not child.running or time.monotonic() > deadline:
                    raise RuntimeError(f"the server does not start:\n{child.output()[-2000:]}")
                await asyncio.sleep(0.05)
        yield f"http://{address}"
    finally:
        await child.stop()


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url):
            return True
    except aiohttp.ClientError:
        return False


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="./run bench api", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", type=int, default=10_000, help="how many there are in the end")
    parser.add_argument("--store", choices=STORES, default="sqlite")
    parser.add_argument("--at-once", type=int, default=8, help="clients that ask at the same time")
    given = parser.parse_args()
    asyncio.run(main(given.rules, given.store, given.at_once))
