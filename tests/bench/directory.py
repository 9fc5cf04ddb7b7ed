"""How soon a FreeSWITCH hears who a caller is: questions as mod_xml_curl asks them, one after the other, of a directory with many trunks.

    ./run bench directory [--trunks 10000] [--questions 3000]

Over HTTP on loopback, server and client in one process. The last line is JSON: milliseconds at p50, p99 and at worst, for questions over
HTTP and for the answer alone, and whether the worst stays below the target: FreeSWITCH's caller waits meanwhile.
"""

import argparse
import asyncio
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

import aiohttp

from bridge.api.auth import Keys
from bridge.api.directory import PATH, Directory
from bridge.api.options import DirectoryOptions
from bridge.api.server import serve_api
from bridge.api.twirp import Twirp
from bridge.model.credentials import TrunkCredentials
from bridge.testing.ports import LOOPBACK
from tests.bench.report import finish, percentile, say

SECRET: Final = "a-secret-for-a-bench-on-loopback!"
TARGET_MS: Final = 5.0
"""At p99."""

WORDS: Final = 40
"""Fields of a question beside those that are looked at: with them it is as long as FreeSWITCH's, some 1,300 bytes."""


async def main(trunks: int, questions: int) -> None:
    directory = Directory(DirectoryOptions(SECRET), lambda: False)
    directory.keep([TrunkCredentials(f"ST_{n}", f"user-{n}", f"password of {n}", numbers=(f"+1555{n:07}",)) for n in range(trunks)])
    asked = [_question(n * trunks // questions) for n in range(questions)]
    say(f"{questions} questions about {trunks} trunks")
    over_http: list[float] = []
    async with (
        serve_api(Twirp([], Keys({})), [directory.routes()], LOOPBACK, 0) as port,
        aiohttp.ClientSession(headers={"Authorization": aiohttp.encode_basic_auth("freeswitch", SECRET)}) as session,
    ):
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        for each in asked:
            body = urlencode(each).encode()
            began = time.perf_counter()
            async with session.post(f"http://{LOOPBACK}:{port}{PATH}", data=body, headers=headers) as answer:
                found = await answer.read()
            over_http.append(time.perf_counter() - began)
            if answer.status != 200 or each["user"].encode() not in found:
                raise RuntimeError(f"the directory does not know {each['user']}: {answer.status}")
    alone: list[float] = []
    for each in asked:
        began = time.perf_counter()
        directory.answer(each)
        alone.append(time.perf_counter() - began)
    figures = {"over_http_ms": _figures(over_http), "answer_ms": _figures(alone)}
    targets = {f"p99 <= {TARGET_MS:g} ms": figures["over_http_ms"]["p99"] <= TARGET_MS}
    finish("directory", {"trunks": trunks, "questions": questions, **figures, "targets": targets})


def _question(number: int) -> Mapping[str, str]:
    user = f"user-{number}"
    told = {
        "section": "directory",
        "tag_name": "domain",
        "key_name": "name",
        "key_value": "pbx.example.com",
        "action": "sip_auth",
        "sip_auth_method": "INVITE",
        "sip_auth_username": user,
        "sip_auth_realm": "pbx.example.com",
        "sip_request_user": f"+1555{number:07}",
        "user": user,
        "domain": "pbx.example.com",
        "ip": "192.0.2.7",
    }
    return {**told, **{f"variable_sip_h_X-{n}": "a word or two" for n in range(WORDS)}}


def _figures(taken: list[float]) -> dict[str, float]:
    return {name: round(1000 * percentile(taken, percent), 3) for name, percent in (("p50", 50), ("p99", 99), ("worst", 100))}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="./run bench directory", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trunks", type=int, default=10_000, help="with a user and a password each")
    parser.add_argument("--questions", type=int, default=3_000)
    given = parser.parse_args()
    asyncio.run(main(given.trunks, given.questions))
