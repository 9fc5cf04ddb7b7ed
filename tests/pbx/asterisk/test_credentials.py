"""Trunks' credentials as PJSIP objects, against a scripted REST interface. That Asterisk takes them is shown in tests/real."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.credentials import TrunkCredentials
from bridge.pbx.asterisk import credentials as keeping
from bridge.pbx.asterisk.credentials import PREFIX, Credentials, cannot_keep, objects_of, shared, trunk_of
from bridge.pbx.asterisk.options import AriOptions
from tests.pbx.asterisk.fake_ari import FakeAri


def trunk(trunk_id: str = "ST_a", *numbers: str, **fields: Any) -> TrunkCredentials:
    return replace(TrunkCredentials(trunk_id, "u", "hidden-word", numbers=numbers), **fields)


@pytest.fixture
def ari() -> FakeAri:
    return FakeAri()


@asynccontextmanager
async def keeper(ari: FakeAri) -> AsyncIterator[Credentials]:
    async with ari.served() as url:
        kept = Credentials(AriOptions(url, "roomline", "x", (("allow", "alaw"),)), "hq")
        running = asyncio.create_task(kept.run())
        try:
            yield kept
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110  (nothing tells of the moment)
            await asyncio.sleep(0.01)


ALL_OF_A = {("auth", "ST_a"), ("endpoint", "ST_a"), ("identify", "ST_a-0")}


async def test_given_trunks_then_their_objects_are_made_in_a_safe_order_and_others_left_alone(ari: FakeAri) -> None:
    async with keeper(ari) as kept:
        kept.keep([trunk("ST_a", "+15550100", "1 (555) 0101", "alice", "*21#")])
        await until(lambda: ari.ours() == ALL_OF_A)
        puts = [kind for method, kind, _ in ari.asked if method == "PUT"]
        assert puts == ["auth", "endpoint", "identify"]  # what can be reached has its auth
        endpoint = ari.objects["endpoint", f"{PREFIX}ST_a"]
        assert (endpoint["auth"], endpoint["allow"], endpoint["context"]) == (f"{PREFIX}ST_a", "alaw", "roomline")
        assert "hidden-word" not in str(ari.objects)
        pattern = ari.objects["identify", f"{PREFIX}ST_a-0"]["match_request_uri"]
        for uri, matches in {
            "sip:+15550100@pbx": True,
            "sip:15550100@pbx:5060": True,
            "sips:15550101;x=y@pbx": True,
            "sip:alice@pbx": True,
            "sip:*21%23@pbx": True,
            "sip:155501001@pbx": False,
            "sip:malice@pbx": False,
            "sip:015550100@pbx": False,
        }.items():
            assert bool(re.search(pattern.strip("/"), uri)) is matches, uri
        kept.keep([])
        await until(lambda: ari.ours() == set())
        assert [kind for method, kind, _ in ari.asked if method == "DELETE"] == ["identify", "endpoint", "auth"]
        assert ("endpoint", "operators-own") in ari.objects


async def test_given_a_change_then_only_what_changed_is_written(ari: FakeAri) -> None:
    async with keeper(ari) as kept:
        kept.keep([trunk("ST_a", "1"), trunk("ST_b", "2")])
        await until(lambda: len(ari.ours()) == 6)
        ari.asked.clear()
        kept.keep([trunk("ST_a", "1"), trunk("ST_b", "2", password="another")])
        await until(lambda: len(ari.asked) >= 4)
        assert {name for _, _, name in ari.asked} == {f"{PREFIX}ST_b", f"{PREFIX}ST_b-0", f"{PREFIX}ST_b-1"}


async def test_given_fewer_numbers_then_no_identify_of_before_stays(ari: FakeAri) -> None:
    async with keeper(ari) as kept:
        kept.keep([trunk("ST_a", *map(str, range(250)))])
        await until(lambda: ("identify", "ST_a-2") in ari.ours())
        kept.keep([trunk("ST_a", "1")])
        await until(lambda: ari.ours() == ALL_OF_A)


async def test_given_what_an_earlier_run_left_then_it_is_brought_into_step(ari: FakeAri) -> None:
    for kind, name in (
        ("endpoint", "ST_old"),
        ("auth", "ST_old"),
        ("identify", "ST_old-0"),
        ("identify", "ST_old-1"),
        ("identify", "ST_a-1"),
        ("endpoint", "ST_a"),
    ):
        ari.objects[kind, f"{PREFIX}{name}"] = {"left": "over", "endpoint": f"{PREFIX}{name}"}
    async with keeper(ari) as kept:
        kept.keep([trunk("ST_a", "1")])
        await until(lambda: ari.ours() == ALL_OF_A)
        assert "left" not in ari.objects["endpoint", f"{PREFIX}ST_a"]
        # Restored from somewhere, say: seen at the next connection.
        ari.objects.clear()
        kept.look_again()
        await until(lambda: ari.ours() == ALL_OF_A)


@pytest.mark.parametrize("failing", [1, 2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("all_of_it", [True, False])
async def test_given_a_removal_that_breaks_off_in_the_middle_then_nothing_of_it_is_overlooked_afterwards(
    ari: FakeAri, monkeypatch: pytest.MonkeyPatch, failing: int, *, all_of_it: bool
) -> None:
    monkeypatch.setattr(keeping, "SHORTEST_WAIT", 0.02)
    monkeypatch.setattr(keeping, "NUMBERS_TOGETHER", 1)
    deletions = 0

    def fails(method: str, _kind: str, _name: str) -> web.Response | None:
        nonlocal deletions
        deletions += method == "DELETE"
        return web.json_response({}, status=500) if method == "DELETE" and deletions >= failing else None

    async with keeper(ari) as kept:
        kept.keep([trunk("ST_a", *"12345")])
        await until(lambda: ("identify", "ST_a-4") in ari.ours())
        left = set() if all_of_it else ALL_OF_A
        ari.fault = fails
        kept.keep([] if all_of_it else [trunk("ST_a", "1")])
        await until(lambda: bool(kept.trouble) or ari.ours() == left)
        # Asterisk is restarted, say, and has what it had.
        kept.look_again()
        ari.fault = lambda method, kind, name: None
        await until(lambda: ari.ours() == left)


@pytest.mark.parametrize("status", [500, 401, 403, 400])
async def test_given_an_interface_that_fails_then_it_is_tried_again_until_it_is_done(
    ari: FakeAri, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "SHORTEST_WAIT", 0.02)
    left = {"PUT": 2, "GET": 1, "DELETE": 1}

    def fails(method: str, _kind: str, _name: str) -> web.Response | None:
        left[method] -= 1
        return web.json_response({"message": "no"}, status=status) if left[method] >= 0 else None

    ari.fault = fails
    async with keeper(ari) as kept:
        kept.keep([trunk("ST_a", "1"), trunk("ST_b", "2")])
        await until(lambda: str(status) in kept.trouble)
        assert "hidden-word" not in kept.trouble
        await until(lambda: len(ari.ours()) == 6 and not kept.trouble)


async def test_given_a_trunk_that_asterisk_refuses_then_the_others_are_kept(ari: FakeAri) -> None:
    ari.fault = lambda method, kind, name: web.json_response({}, status=400) if "ST_a" in name and method == "PUT" else None
    async with keeper(ari) as kept:
        kept.keep([trunk("ST_a", "1"), trunk("ST_b", "2")])
        await until(lambda: ("identify", "ST_b-0") in ari.ours() and bool(kept.trouble))


async def test_given_nobody_at_the_interface_then_that_is_said_and_nothing_breaks() -> None:
    kept = Credentials(AriOptions("http://127.0.0.1:1", "roomline", "x"), "hq")
    kept.keep([trunk("ST_a", "1")])
    running = asyncio.create_task(kept.run())
    await until(lambda: "ARI at http://127.0.0.1:1 does not answer" in kept.trouble)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (trunk("ST_a"), "neither numbers nor addresses"),
        (trunk("ST_a", addresses=("pbx.example.com", "*.example")), "neither numbers nor addresses"),
        (trunk("ST a", "1"), "its id"),
        (trunk("../auth/x", "1"), "its id"),
        (trunk("ST_a", "1", username="a\nb"), "control character"),
        (trunk("ST_a", "1", username='a"b'), "quotation mark"),
        (trunk("ST_a", "1", realm=""), "control character"),
        (trunk("ST_a", "a)|.*"), "cannot be the user"),
        (trunk("ST_a", ""), "cannot be the user"),
    ],
)
async def test_given_what_asterisk_cannot_express_then_it_is_said_and_not_written(ari: FakeAri, wrong: TrunkCredentials, why: str) -> None:
    assert why in cannot_keep(wrong)
    async with keeper(ari) as kept:
        kept.keep([wrong, trunk("ST_good", "7")])
        await until(lambda: ("identify", "ST_good-0") in ari.ours())
        assert len(ari.ours()) == 3


def test_given_a_trunk_without_numbers_then_its_calls_are_told_by_address() -> None:
    objects = objects_of(trunk("ST_a", addresses=("192.0.2.1", "198.51.100.0/24", "pbx.example.com", "2001:db8::/32")))
    matches = [dict(each.fields)["match"] for each in objects if each.kind == "identify"]
    assert matches == ["192.0.2.1/32", "198.51.100.0/24", "2001:db8::/32"]


def test_given_two_trunks_with_one_number_then_the_second_is_named() -> None:
    assert shared([trunk("ST_a", "+1 555", "2"), trunk("ST_b", "1555"), trunk("ST_c", "3")]) == {"ST_b": "ST_a"}


def test_given_an_endpoint_then_only_ours_stands_for_a_trunk() -> None:
    assert (trunk_of(f"{PREFIX}ST_a"), trunk_of("carrier"), trunk_of("")) == ("ST_a", "", "")


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_given_any_user_number_and_id_then_it_is_refused_or_matches_itself_alone(user: str, number: str, trunk_id: str) -> None:
    found = trunk(trunk_id, number, username=user)
    if cannot_keep(found):
        return
    (identify,) = (each for each in objects_of(found) if each.kind == "identify")
    pattern = dict(identify.fields)["match_request_uri"]
    assert "hidden-word" not in repr(objects_of(found))
    assert not re.search(pattern.strip("/"), "sip:somebody-else@pbx") or number == "somebody-else"
