"""`roomline import` and `roomline export`: what goes where, what is skipped and why, and that a second time changes nothing."""

import asyncio
import json
import stat
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from livekit.protocol import sip

from bridge.cli import main
from bridge.model.phone_number import PhoneNumber, PhoneNumberStatus
from bridge.model.rule import DispatchRule
from bridge.model.trunk import InboundTrunk, LegacyKind, LegacyTrunk
from bridge.store.exchange import Fate, from_data, plan, to_text
from bridge.store.inventory import KINDS
from bridge.store.port import Edit, Inventory
from bridge.store.sqlite_objects import SqliteObjects
from bridge.testing.redis_server import RedisServer
from tests.store.objects import ONE_OF_EACH, everything, needs_redis, put, room_of, rule


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "roomline.yaml"
    path.write_text(
        f"pbx: [{{name: hq, ami: {{secret: x}}}}]\nstore: sqlite:///{tmp_path}/roomline.db\n"
        "dispatch_rules: [{sip_dispatch_rule_id: SDR_file, trunk_ids: [ST_x], rule: {dispatch_rule_direct: {room_name: file}}}]\n"
    )
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def stored(path: Path) -> Inventory:
    async def read() -> Inventory:
        async with SqliteObjects(path) as store:
            return await store.read()

    return asyncio.run(read())


def fill(path: Path, *objects: DispatchRule | InboundTrunk | PhoneNumber) -> None:
    async def write() -> None:
        async with SqliteObjects(path) as store:
            await store.change(put(*objects))

    asyncio.run(write())


@pytest.mark.parametrize("as_json", [True, False])
def test_given_everything_when_it_is_written_and_read_then_it_is_the_same(as_json: bool) -> None:
    text = to_text(everything(), as_json=as_json)
    assert from_data(json.loads(text) if as_json else yaml.safe_load(text), "here") == everything()


def test_given_an_export_when_it_is_imported_elsewhere_then_all_is_there_and_a_second_time_changes_nothing(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "other.db", *ONE_OF_EACH[:1], ONE_OF_EACH[3], ONE_OF_EACH[6])  # type: ignore[arg-type]  # of the kinds that fill takes
    target = tmp_path / "objects.yaml"
    assert run("export", "-c", config, "--from", f"sqlite:///{tmp_path}/other.db", "--to", target) == 0
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert run("import", target, "-c", config, "--dry-run") == 0
    assert stored(tmp_path / "roomline.db") == Inventory()
    assert "3 new, 0 changed, 0 same, 0 skipped" in capsys.readouterr().out
    assert run("import", target, "-c", config, "--yes") == 0
    assert stored(tmp_path / "roomline.db") == stored(tmp_path / "other.db")
    capsys.readouterr()
    assert run("import", target, "-c", config, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["done"] is False
    assert {line["fate"] for line in report["objects"]} == {"same"}


async def test_given_redis_then_everything_goes_there_and_back_and_a_second_time_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = to_text(everything(), as_json=False)
    (tmp_path / "all.yaml").write_text(text)
    with needs_redis():
        async with RedisServer(tmp_path / "redis") as server:
            there, here = tmp_path / "there.yaml", tmp_path / "here.yaml"
            for path, store in ((there, server.url), (here, f"sqlite:///{tmp_path}/here.db")):
                path.write_text(f"pbx: [{{name: hq, ami: {{secret: x}}}}]\nstore: {store}\nrecords: sqlite:///{tmp_path}/records.db\n")
            for source, config in ((tmp_path / "all.yaml", there), (server.url, here)):
                for again in (False, True):
                    assert await asyncio.to_thread(run, "import", source, "-c", config, "--yes", "--json") == 0
                    report = json.loads(capsys.readouterr().out)
                    assert report["done"] is not again
                    fates = {each["id"]: each["fate"] for each in report["objects"]}
                    kept = {each: fate for each, fate in fates.items() if fate != "skipped"}
                    assert set(kept.values()) == {"same" if again else "new"}
            assert await asyncio.to_thread(run, "export", "--from", server.url, "-c", here, "--to", tmp_path / "out.yaml") == 0
            assert server.password not in capsys.readouterr().out
    found = from_data(yaml.safe_load((tmp_path / "out.yaml").read_text()), "out.yaml")
    assert found == await asyncio.to_thread(stored, tmp_path / "here.db")
    assert set(kept) == {object_id for kind in KINDS for object_id in kind.of(found)}


def test_given_an_export_without_a_target_then_it_has_all_that_decides_calls(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path / "roomline.db", rule("SDR_a", "stored"))
    assert run("export", "-c", config, "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert [found["sip_dispatch_rule_id"] for found in data["dispatch_rules"]] == ["SDR_a", "SDR_file"]


def test_given_a_roomline_yaml_then_its_objects_are_imported_and_what_stands_here_already_is_skipped_with_the_place(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_PIN", "80428617")
    other = tmp_path / "other.yaml"
    other.write_text(
        "pbx: [{name: there, ami: {secret: {env: THE_PIN}}}]\n"
        "dispatch_rules:\n"
        "  - {sip_dispatch_rule_id: SDR_file, rule: {dispatch_rule_direct: {room_name: other}}}\n"
        "  - {rule: {dispatch_rule_direct: {room_name: lobby, pin: {env: THE_PIN}}}}\n"
    )
    assert run("import", other, "-c", config, "-y") == 0
    out = capsys.readouterr().out
    assert f"skipped  sip_dispatch_rule SDR_file: stands in {config}:3: change it there" in out
    assert "80428617" not in out
    inventory = stored(tmp_path / "roomline.db")
    assert set(inventory.dispatch_rules) == {"SDR_config000001"}
    assert inventory.dispatch_rules["SDR_config000001"].pin == "80428617"


def test_given_objects_that_would_break_calls_then_they_are_skipped_and_it_is_said_why() -> None:
    there = Inventory(
        dispatch_rules={"SDR_a": rule("SDR_a", "a"), "SDR_moves": rule("SDR_moves", "m", pin="1")},
        inbound_trunks={
            "ST_a": InboundTrunk(sip_trunk_id="ST_a", numbers=("+1",)),
            "ST_gives": InboundTrunk(sip_trunk_id="ST_gives", numbers=("+5", "+6")),
        },
        phone_numbers={"PN_a": PhoneNumber(id="PN_a", e164_format="+9")},
    )
    found = Inventory(
        dispatch_rules={
            "SDR_moves": rule("SDR_moves", "m", pin="2"),
            "SDR_free": rule("SDR_free", "x", pin="1"),
            "SDR_b": rule("SDR_b", "b"),
            "SDR_none": DispatchRule(sip_dispatch_rule_id="SDR_none"),
            "SDR_a": rule("SDR_a", "a"),
        },
        inbound_trunks={
            "ST_b": InboundTrunk(sip_trunk_id="ST_b", numbers=("(1)",)),
            "ST_open": InboundTrunk(sip_trunk_id="ST_open"),
            "ST_c": InboundTrunk(sip_trunk_id="ST_c", numbers=("+2",)),
            "ST_own": InboundTrunk(sip_trunk_id="ST_own", numbers=("+4", "(9)"), auth_username="u", auth_password="p"),
            "ST_gets": InboundTrunk(sip_trunk_id="ST_gets", numbers=("+7",)),
            "ST_gives": InboundTrunk(sip_trunk_id="ST_gives", numbers=("+6",)),
        },
        legacy_trunks={
            "ST_old": LegacyTrunk(sip_trunk_id="ST_old", outbound_number="9"),
            "ST_out": LegacyTrunk(sip_trunk_id="ST_out", outbound_number="9", kind=LegacyKind.TRUNK_OUTBOUND),
        },
        phone_numbers={
            "PN_b": PhoneNumber(id="PN_b", e164_format="+2"),
            "PN_c": PhoneNumber(id="PN_c", e164_format="9"),
            "PN_d": PhoneNumber(id="PN_d", e164_format="+3"),
            "PN_e": PhoneNumber(id="PN_e", e164_format="+4"),
            "PN_f": PhoneNumber(id="PN_f", e164_format="+5"),
            "PN_free": PhoneNumber(id="PN_free", e164_format="+2", status=PhoneNumberStatus.PHONE_NUMBER_STATUS_RELEASED),
        },
    )
    made = plan(found, there, {})
    fates = {line.id: line.fate for line in made.lines}
    assert fates == {
        "SDR_moves": Fate.CHANGED,
        "SDR_free": Fate.NEW,
        "SDR_b": Fate.SKIPPED,
        "SDR_none": Fate.SKIPPED,
        "SDR_a": Fate.SAME,
        "ST_b": Fate.SKIPPED,
        "ST_open": Fate.SKIPPED,
        "ST_c": Fate.NEW,
        "PN_b": Fate.SKIPPED,
        "PN_c": Fate.SKIPPED,
        "PN_d": Fate.NEW,
        "ST_own": Fate.SKIPPED,
        "ST_gets": Fate.NEW,
        "ST_gives": Fate.CHANGED,
        "ST_old": Fate.SKIPPED,
        "ST_out": Fate.NEW,
        "PN_e": Fate.NEW,
        "PN_f": Fate.NEW,
        "PN_free": Fate.NEW,
    }
    assert all(line.why for line in made.lines if line.fate is Fate.SKIPPED)
    assert {line.id: line.why for line in made.lines}["ST_b"] == "takes the same calls as ST_a"
    assert {line.id: line.why for line in made.lines}["ST_own"] == "+9 is also the phone number PN_a, calls to which need no trunk"
    assert {line.id: line.why for line in made.lines}["PN_b"] == "+2 is also a number of trunk ST_c"
    assert len(made.edit.put) == sum(line.fate in (Fate.NEW, Fate.CHANGED) for line in made.lines)
    assert made.edit.delete == Edit().delete


def test_given_a_rule_in_the_store_then_explain_knows_it(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", "-c", config, "--from", "+1", "--to", "+2") == 0
    assert not (tmp_path / "roomline.db").exists(), "looking makes no file"
    fill(tmp_path / "roomline.db", rule("SDR_a", "from-the-store"))
    capsys.readouterr()
    assert run("explain", "-c", config, "--from", "+1", "--to", "+2") == 0
    assert "from-the-store" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dispatch_rules: {}\n", "dispatch_rules must be a list"),
        ("dispatch_rules: [{rule: {dispatch_rule_direct: {pin: 80428617}}}]\n", "dispatch_rules[0].rule.dispatch_rule_direct.pin"),
        ("trunks: [80428617]\n", "trunks[0]"),
        ("trunks: [\n", ""),
    ],
)
def test_given_a_file_that_is_wrong_then_the_error_names_the_place_and_nothing_of_what_stands_there(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(text)
    assert run("import", other, "-c", config, "-y") == 2
    error = capsys.readouterr().err
    assert f"{other}" in error
    assert says in error
    assert "80428617" not in error


def test_given_a_source_that_is_not_there_then_the_error_says_so_and_nothing_is_made(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVEKIT_API_KEY", "key")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "geheim" * 6)
    for source in (f"sqlite:///{tmp_path}/none.db", "redis://:geheim@127.0.0.1:1/0", "ws://127.0.0.1:1", f"{tmp_path}/none.yaml"):
        assert run("import", source, "-c", config, "-y") == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        assert "geheim" not in error
    assert not (tmp_path / "none.db").exists()


async def test_given_a_livekit_then_its_trunks_and_rules_are_read_page_by_page(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that gives a page at a time, as the cloud does. The real one's turn is in tests/real."""
    monkeypatch.setattr("bridge.livekit_objects.PAGE", 2)
    direct = sip.SIPDispatchRule(dispatch_rule_direct=sip.SIPDispatchRuleDirect(room_name="lobby", pin="80428617"))
    rules = [sip.SIPDispatchRuleInfo(sip_dispatch_rule_id=f"SDR_{n}", rule=direct, trunk_ids=[f"ST_{n}"]) for n in range(5)]
    trunks = [sip.SIPInboundTrunkInfo(sip_trunk_id="ST_0", numbers=["+1"], auth_password="geheim")]
    trunks.append(sip.SIPInboundTrunkInfo(sip_trunk_id="ST_newer", numbers=["+2"], include_headers=77))  # type: ignore[arg-type]  # of a newer LiveKit

    async def answer(request: web.Request) -> web.Response:
        assert request.headers["Authorization"].startswith("Bearer ")
        after = sip.ListSIPDispatchRuleRequest.FromString(await request.read()).page.after_id
        match request.match_info["method"]:
            case "ListSIPDispatchRule":
                page = [item for item in rules if item.sip_dispatch_rule_id > after][:2]
                body = sip.ListSIPDispatchRuleResponse(items=page).SerializeToString()
            case "ListSIPInboundTrunk":  # as the open-source server: all at once, then nothing
                body = sip.ListSIPInboundTrunkResponse(items=() if after else trunks).SerializeToString()
            case _:
                body = b""
        return web.Response(body=body, content_type="application/protobuf")

    app = web.Application()
    app.add_routes([web.post("/twirp/livekit.SIP/{method}", answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setenv("LIVEKIT_API_KEY", "key")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "s" * 32)
    try:
        url = f"ws://127.0.0.1:{runner.addresses[0][1]}"
        assert await asyncio.to_thread(run, "import", url, "-c", config, "-y") == 0
    finally:
        await runner.cleanup()
    out = capsys.readouterr().out
    assert "80428617" not in out
    assert "geheim" not in out
    assert "skipped  ST_newer: a SIPInboundTrunkInfo whose include_headers" in out
    async with SqliteObjects(tmp_path / "roomline.db") as store:
        inventory = await store.read()
    assert set(inventory.dispatch_rules) == {f"SDR_{n}" for n in range(5)}
    assert room_of(inventory, "SDR_4") == "lobby"
    assert inventory.inbound_trunks["ST_0"].auth_password == "geheim"
