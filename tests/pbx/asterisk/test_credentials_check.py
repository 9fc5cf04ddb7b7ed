"""`roomline check` on what Asterisk cannot express, and on what an operator still has to do for credentials: each finding, at a scripted
REST interface. That a real Asterisk passes is shown in tests/real."""

from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import web

from bridge.model.credentials import TrunkCredentials
from bridge.model.finding import Finding
from bridge.pbx.asterisk.credentials_check import check_credentials
from bridge.pbx.asterisk.options import AriOptions, AsteriskOptions
from tests.pbx.asterisk.fake_ari import FakeAri

GOOD = TrunkCredentials("ST_good", "u", "hidden-word", numbers=("+1",))
SAME = TrunkCredentials("ST_same", "u", "hidden-word", numbers=("(1)",))
NOWHERE = TrunkCredentials("ST_nowhere", "u", "hidden-word", addresses=("pbx.example.com",))


async def findings(ari: FakeAri, *trunks: TrunkCredentials, **options: Any) -> Sequence[Finding]:
    before = dict(ari.objects)
    async with ari.served() as url:
        asterisk = AsteriskOptions(name="hq", ari=AriOptions(url, "roomline", "x"), **options)
        found = await check_credentials(asterisk, trunks)
    assert ari.objects == before, "it leaves nothing behind"
    assert "hidden-word" not in str(found)
    return found


def wrong(found: Sequence[Finding]) -> list[str]:
    assert all(each.todo for each in found if not each.ok)
    return [each.text for each in found if not each.ok]


def refusing(kind: str, status: int) -> FakeAri:
    ari = FakeAri()
    ari.fault = lambda _method, asked, _name: web.json_response({"message": "no"}, status=status) if asked == kind else None
    return ari


async def test_given_all_that_is_needed_then_it_is_well() -> None:
    assert await findings(FakeAri(), GOOD) == [Finding(True, "ARI keeps the trunks' credentials in Asterisk")]


async def test_given_no_ari_then_the_trunks_that_want_it_are_counted_and_nobody_gets_in() -> None:
    options = AsteriskOptions(name="hq", trusted_endpoints={"carrier": "ST_same"})
    (found,) = await check_credentials(options, [GOOD, SAME])
    assert (found.ok, found.text) == (False, "nobody is asked for the credentials of 1 trunks, so nobody gets in by them")
    assert "pbx[].ari" in found.todo
    assert await check_credentials(options, [SAME]) == []


async def test_given_numbers_in_common_then_both_trunks_are_named_unless_the_pbx_knows_one_of_them_itself() -> None:
    (text,) = wrong(await findings(FakeAri(), GOOD, SAME))
    assert text == "trunks ST_same and ST_good share a number: Asterisk asks for the credentials of one of them only"
    assert wrong(await findings(FakeAri(), GOOD, SAME, trusted_endpoints={"carrier": "ST_same"})) == []


async def test_given_a_trunk_that_asterisk_cannot_tell_then_it_says_why() -> None:
    (text,) = wrong(await findings(FakeAri(), GOOD, NOWHERE))
    assert text.startswith("trunk ST_nowhere: it has neither numbers nor addresses")


@pytest.mark.parametrize(
    ("kind", "status", "says", "todo"),
    [
        ("identify", 400, "ARI refused the identify", "an Asterisk older than 20.10, 21.5 or 22 has no match_request_uri"),
        ("identify", 403, "sorcery.conf has no `…=astdb,…` line", "add the lines of dialplan/asterisk/sorcery.conf"),
        ("auth", 403, "sorcery.conf has no `…=astdb,…` line", "add the lines of dialplan/asterisk/sorcery.conf"),
        ("endpoint", 401, "the user or the secret is another one", "compare pbx[].ari with ari.conf"),
        ("endpoint", 404, "res_ari_asterisk.so is not loaded", "load res_ari_asterisk.so"),
        ("global", 500, "ARI does not show the global", "sorcery.conf"),
    ],
)
async def test_given_an_asterisk_that_refuses_then_what_to_do_about_it(kind: str, status: int, says: str, todo: str) -> None:
    (found,) = await findings(refusing(kind, status), GOOD)
    assert (found.ok, says in found.text, todo in found.todo) == (False, True, True), found
    assert ("older" in found.todo) is (kind == "identify")


async def test_given_nobody_at_the_interface_then_what_to_do_about_it() -> None:
    (found,) = await check_credentials(AsteriskOptions(name="hq", ari=AriOptions("http://127.0.0.1:1", "roomline", "x")), [GOOD])
    assert (found.ok, "does not answer" in found.text, "http.conf" in found.todo) == (False, True, True)


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ("ip,username,anonymous", "does not look at the called number"),
        ("", "does not look at the called number"),
        ("ip,anonymous,request_uri", "anonymous before it looks at the called number"),
        ("ip, anonymous, username, request_uri", "anonymous before it looks at the called number"),
        ("request_uri,ip,username,anonymous", ""),
        ("ip, request_uri", ""),
    ],
)
async def test_given_an_order_of_identification_then_the_called_number_has_to_come_before_anonymous(order: str, says: str) -> None:
    ari = FakeAri()
    ari.objects["global", "global"] = {"endpoint_identifier_order": order}
    texts = wrong(await findings(ari, GOOD))
    assert [says in text for text in texts] == ([True] if says else [])
