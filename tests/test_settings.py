"""What the keys mean: what is refused and in which words, and what the objects mean together."""

from pathlib import Path

import pytest

from bridge.dispatch.directory import UnknownTrunks
from bridge.errors import ConfigurationError
from bridge.pbx.asterisk.section import Asterisk
from bridge.pbx.freeswitch.options import FreeSwitchOptions
from bridge.rooms.options import LiveKitAccess
from bridge.settings import Loaded, Settings

PBX = 'pbx:\n  - {name: hq, ami: {secret: "x"}}\n'


def load(folder: Path, text: str, environment: dict[str, str] | None = None) -> Loaded:
    path = folder / "roomline.yaml"
    path.write_text(PBX + text)
    return Settings.load(path, environment or {})


def why_not(folder: Path, text: str, environment: dict[str, str] | None = None) -> str:
    """Whether it is refused at once or when its objects are looked at together."""
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text, environment).sound()
    return str(caught.value)


def test_given_the_smallest_file_then_everything_else_has_its_default(tmp_path: Path) -> None:
    settings = load(tmp_path, "").sound().settings
    assert isinstance(settings.pbx[0], Asterisk)
    assert settings.pbx[0].ami.host == "127.0.0.1"
    assert settings.pbx[0].ami.secret.get_secret_value() == "x"
    assert settings.media.listen == ("127.0.0.1", 9092)
    assert settings.http.listen is None
    assert settings.pin.attempts == 1
    assert settings.unknown_trunks is UnknownTrunks.ALLOW
    assert settings.calls.limit == 100


def test_given_objects_without_ids_then_they_get_one_by_their_place(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        'trunks:\n  - {numbers: ["+1"]}\n  - {sip_trunk_id: ST_mine, numbers: ["+2"]}\n'
        "dispatch_rules:\n  - {rule: {dispatch_rule_direct: {room_name: lobby}}}\n",
    ).settings
    assert [trunk.sip_trunk_id for trunk in settings.trunks] == ["ST_config000000", "ST_mine"]
    assert settings.dispatch_rules[0].sip_dispatch_rule_id == "SDR_config000000"


def test_given_stores_then_records_go_to_a_file_of_their_own_where_the_store_is_none(tmp_path: Path) -> None:
    for text, records in (
        ("", "roomline.db"),
        ("store: sqlite:///a.db\n", "a.db"),
        ("store: redis://localhost:6379/0\n", "roomline.db"),
        ("store: file\nrecords: sqlite:///b.db\n", "b.db"),
    ):
        assert load(tmp_path, text).settings.records_path == Path(records)
    loaded = load(tmp_path, "store: {env: STORE_URL}\n", {"STORE_URL": "rediss://:geheim@redis.example.com/1"})
    assert loaded.settings.store == "rediss://:geheim@redis.example.com/1"
    assert "geheim" not in repr(loaded.settings)
    assert ("store",) not in loaded.file.literal_secrets
    assert ("store",) in load(tmp_path, "store: redis://:geheim@localhost\n").file.literal_secrets
    rules = "dispatch_rules: [{rule: {dispatch_rule_direct: {room_name: a}}, attributes: {store: berlin}}]\n"
    assert load(tmp_path, rules).settings.dispatch_rules[0].attributes == {"store": "berlin"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cals: {limit: 1}\n", ":3: cals: there is no such key; did you mean calls?"),
        ("calls:\n  limt: 1\n", ":4: calls.limt: there is no such key; did you mean limit?"),
        (
            "calls:\n  wholly_new: 1\n",
            ":4: calls.wholly_new: there is no such key; there are drain, limit, media_timeout, media_timeout_initial, over_limit, "
            "room_failure",
        ),
        ("pin: {throttle: {rule: {burst: 1, refil: 2}}}\n", ":3: pin.throttle.rule.refil: there is no such key; did you mean refill?"),
        ("calls: {limit: many}\n", ":3: calls.limit: "),
        ("calls: {limit: 0}\n", ":3: calls.limit: "),
        ("calls: []\n", ":3: calls: "),
        ("media: {listen: nowhere}\n", ":3: media.listen: an address is host:port, for example 127.0.0.1:9092"),
        ("media: {listen: 127.0.0.1:99999}\n", ":3: media.listen: an address is host:port"),
        ("media: {orphan_limit: 1}\n", ":3: media.orphan_limit: "),
        ("store: roomline.db\n", ":3: store: "),
        ("records: redis://localhost\n", ":3: records: "),
        ("phone_numbers: [{id: PN_a, e164_format: '+1'}, {id: PN_a, e164_format: '+2'}]\n", ":3: phone_numbers[1] is called PN_a"),
        ("pin: {digit_timeout: 0}\n", ":3: pin.digit_timeout: "),
        ("pin: {digit_timeout: .nan}\n", ":3: pin.digit_timeout: "),
        ("pin: {digit_timeout: .inf}\n", ":3: pin.digit_timeout: "),
        (
            "rooms: {kind: livekit, url: 'ws://x'}\n",
            ":3: rooms: LiveKit needs key and secret: here, or in the environment as ",
        ),
        ("rooms: {kind: livekit, url: x, key: k, secret: s}\n", ":3: rooms: url: LiveKit's address looks like wss://"),
        ("rooms: {kind: livekit, url: 'ws://k:s@x', key: k, secret: s}\n", ":3: rooms: url: LiveKit's address has no user"),
        ("rooms: {url: 'ws://x'}\n", ":3: rooms: url and key are LiveKit's: write kind: livekit"),
        (
            "rooms: {kind: livekit, url: 'ws://x', key: k, secret: s, participants: [{rooms: x, kind: echo}]}\n",
            ":3: rooms: participants live in local rooms",
        ),
        ("api: {keys: {one: {env: NO_SUCH_VARIABLE}}}\n", ":3: api.keys.one: the environment variable NO_SUCH_VARIABLE is not set"),
        ("api: {keys: {one: ''}}\n", ":3: api: keys: a key and its secret are texts"),
        ("api: {directory: {secret: too-short}}\n", ":3: api.directory.secret: Value should have at least 16 items"),
        (
            "api: {directory: {secret: aaaaaaaaaaaaaaaa, peers: [pbx.example.com]}}\n",
            ":3: api.directory.peers: 'pbx.example.com' is no address and no network",
        ),
        ("outbound: {allow: ['sip:*@h']}\n", ":3: outbound.allow: a pattern is a number such as +49*, or a user and a host"),
        ("unknown_trunks: perhaps\n", ":3: unknown_trunks: "),
        ("trunks:\n  - numbers: +15550100\n", ":4: trunks[0].numbers: "),
        ("trunks:\n  - {numbers: [15550100]}\n", ":4: trunks[0].numbers[0]: must be a text: write it in quotes"),
        (
            "dispatch_rules:\n  - rule:\n      dispatch_rule_direct:\n        pin: 1234\n",
            ":6: dispatch_rules[0].rule.dispatch_rule_direct.pin: must be a text: write it in quotes",
        ),
        (
            "dispatch_rules:\n  - {rule: {dispatch_rule_direct: {}, dispatch_rule_callee: {}}}\n",
            ":4: dispatch_rules[0].rule: a rule is one of",
        ),
    ],
)
def test_given_a_wrong_key_or_value_then_the_error_names_line_place_and_remedy(tmp_path: Path, text: str, says: str) -> None:
    assert says in why_not(tmp_path, text)


LIVEKIT = "rooms: {kind: livekit, url: 'wss://lk.example', key: K, secret: hidden-word}\n"


def test_given_livekit_then_its_processes_and_their_calls_follow_from_the_machine(tmp_path: Path) -> None:
    settings = load(tmp_path, LIVEKIT).settings
    assert settings.rooms.access() == LiveKitAccess("wss://lk.example", "K", "hidden-word")
    assert "hidden-word" not in repr(settings) + repr(settings.rooms.access())
    assert 1 <= settings.workers <= 4
    assert settings.node(1).port == 9093
    assert settings.node().max_calls == 25


def test_given_a_short_livekit_secret_then_it_is_said_and_taken_all_the_same(tmp_path: Path) -> None:
    (said,) = load(tmp_path, LIVEKIT).warnings
    assert ":3: rooms.secret: 11 bytes can be guessed" in said
    assert load(tmp_path, LIVEKIT.replace("hidden-word", "x" * 32)).warnings == []


def test_given_the_api_then_its_keys_are_secrets_and_livekits_where_none_are_given(tmp_path: Path) -> None:
    enough = "x" * 32
    given = load(
        tmp_path, "api: {listen: '127.0.0.1:0', keys: {one: {env: SECRET_OF_ONE}, other: short-word}}\n", {"SECRET_OF_ONE": enough}
    )
    assert {key: secret.get_secret_value() for key, secret in given.settings.api_keys.items()} == {"one": enough, "other": "short-word"}
    assert given.file.literal_secrets == (("pbx", 0, "ami", "secret"), ("api", "keys", "other"))
    (said,) = given.warnings
    assert "api.keys.other: 10 bytes can be guessed" in said
    assert "short-word" not in f"{said} {given.settings}"
    rooms = load(tmp_path, LIVEKIT + "api: {listen: '127.0.0.1:0'}\n").settings
    assert {key: secret.get_secret_value() for key, secret in rooms.api_keys.items()} == {"K": "hidden-word"}


def test_given_livekits_own_variables_then_they_count_where_the_file_says_nothing(tmp_path: Path) -> None:
    variables = {"LIVEKIT_URL": "ws://of-the-environment", "LIVEKIT_API_KEY": "E", "LIVEKIT_API_SECRET": "0123"}
    settings = load(tmp_path, "rooms: {kind: livekit, key: of-the-file}\n", variables).settings
    assert settings.rooms.access() == LiveKitAccess("ws://of-the-environment", "of-the-file", "0123")
    assert load(tmp_path, "", variables).settings.rooms.url == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("api: {listen: '127.0.0.1:8880'}\n", ":3: api.keys: nobody could ask: give it a key and its secret"),
        ("api: {directory: {secret: aaaaaaaaaaaaaaaa}}\n", ":3: api.directory: it is served at api.listen, which is not set"),
        (LIVEKIT + "media: {workers: 0}\n", ":4: media.workers: LiveKit's SDK runs in processes of its own"),
        ("media: {workers: 2}\n", ":3: media.workers: rooms of kind local live in one process"),
    ],
)
def test_given_parts_that_do_not_go_together_then_the_error_says_so(tmp_path: Path, text: str, says: str) -> None:
    assert says in "\n".join(load(tmp_path, text).errors)


def test_given_a_directory_alone_then_the_api_needs_no_keys_and_its_secret_is_one(tmp_path: Path) -> None:
    loaded = load(tmp_path, "api: {listen: '127.0.0.1:0', directory: {secret: a-directory-secret}}\n")
    assert loaded.errors == []
    assert loaded.file.literal_secrets == (("pbx", 0, "ami", "secret"), ("api", "directory", "secret"))
    assert loaded.settings.api.directory is not None
    options = loaded.settings.api.directory.options()
    assert (options.secret, options.peers) == ("a-directory-secret", ("127.0.0.0/8", "::1"))
    assert "a-directory-secret" not in repr(loaded.settings) + repr(options)


def test_given_no_folder_for_sockets_then_it_is_the_services_or_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    media = load(tmp_path, "").settings.media
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/mine")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert str(media.socket(1)) == "/run/mine/node-1.sock"
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    assert str(media.socket(1)) == "/run/user/7/roomline/node-1.sock"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert str(media.socket(1)) == "/run/roomline/node-1.sock"


def test_given_many_mistakes_then_all_are_told_at_once(tmp_path: Path) -> None:
    reason = why_not(tmp_path, "calls: {limit: 0}\nlog: {level: loud}\nnew: 1\n")
    assert [line.partition("roomline.yaml:")[2].partition(":")[0] for line in reason.splitlines()] == ["3", "4", "5"]


def test_given_a_wrong_value_by_environment_then_the_error_names_the_variable(tmp_path: Path) -> None:
    assert "ROOMLINE_CALLS__LIMIT: calls.limit: " in why_not(tmp_path, "", {"ROOMLINE_CALLS__LIMIT": "none"})


@pytest.mark.parametrize("text", ["", "pbx: []\n", "pbx: {}\n"])
def test_given_no_pbx_then_the_error_says_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "roomline.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="pbx: "):
        Settings.load(path, {})


def freeswitch(folder: Path, keys: str, more: str = "") -> Loaded:
    path = folder / "roomline.yaml"
    path.write_text(f"pbx:\n  - {{kind: freeswitch, name: fs, {keys}}}\n{more}")
    return Settings.load(path, {})


def test_given_a_freeswitch_then_it_is_reached_by_its_event_socket(tmp_path: Path) -> None:
    loaded = freeswitch(tmp_path, "esl: {secret: hidden-word, port: 8022}, outbound_gateways: {ST_out: gw}").sound()
    options = loaded.settings.pbx[0].options()
    assert isinstance(options, FreeSwitchOptions)
    assert (options.name, options.host, options.port, options.password) == ("fs", "127.0.0.1", 8022, "hidden-word")
    assert (options.media_host, options.outbound_gateways) == ("127.0.0.1", {"ST_out": "gw"})
    assert loaded.file.literal_secrets == (("pbx", 0, "esl", "secret"),)
    assert "hidden-word" not in repr(loaded.settings) + repr(options)


@pytest.mark.parametrize(
    ("keys", "more", "says"),
    [
        ("esl: {port: 8021}", "", ":2: pbx[0].esl.secret: is missing"),
        ("esl: {secret: x, prot: 1}", "", ":2: pbx[0].esl.prot: there is no such key; did you mean port?"),
        ("esl: {secret: x}, ami: {secret: y}", "", ":2: pbx[0].ami: there is no such key; "),
        ("esl: {secret: x}, trusted_users: {gw: ST_none}", "store: file\n", ":2: pbx[0].trusted_users.gw there is no trunk 'ST_none'"),
        (
            "esl: {secret: x}",
            'media: {listen: "0.0.0.0:9092"}\n',
            ":3: media.listen: fs sends audio to 0.0.0.0, and so could anybody",
        ),
        ("esl: {secret: x}", "media: {public_host: 198.18.0.1}\n", ""),
        ("esl: {secret: x}", "media: {public_host: 8.8.8.8}\n", "media.listen: fs sends audio to 8.8.8.8"),
    ],
)
def test_given_a_wrong_freeswitch_then_the_error_names_the_place(tmp_path: Path, keys: str, more: str, says: str) -> None:
    if not says:
        freeswitch(tmp_path, keys, more).sound()
        return
    with pytest.raises(ConfigurationError) as caught:
        freeswitch(tmp_path, keys, more).sound()
    assert says in str(caught.value)


def test_given_another_kind_then_the_error_says_which_there_are(tmp_path: Path) -> None:
    path = tmp_path / "roomline.yaml"
    path.write_text("pbx:\n  - {kind: kamailio, name: fs}\n")
    with pytest.raises(ConfigurationError, match=r"roomline.yaml:2: pbx\[0\]: kind: a PBX is asterisk .* or freeswitch"):
        Settings.load(path, {})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(
            "dispatch_rules:\n  - {rule: {dispatch_rule_direct: {room_name: one}}}\n  - {rule: {dispatch_rule_direct: {room_name: two}}}\n",
            (":5: dispatch_rules[1]", "dispatch_rules[0]"),
            id="two rules for the same calls",
        ),
        pytest.param(
            "dispatch_rules:\n"
            '  - {rule: {dispatch_rule_direct: {room_name: one, pin: "80428617"}}}\n'
            '  - {rule: {dispatch_rule_direct: {room_name: two, pin: "80428617"}}}\n',
            (":5: dispatch_rules[1]", "dispatch_rules[0]"),
            id="two rules with the same PIN",
        ),
        pytest.param(
            'trunks:\n  - {numbers: ["+15550100"]}\n  - {numbers: ["+15550100"]}\n',
            (":5: trunks[1]", "trunks[0]"),
            id="two trunks for the same calls",
        ),
        pytest.param(
            'dispatch_rules:\n  - {rule: {dispatch_rule_direct: {room_name: one, pin: "80428617x"}}}\n',
            (":4: dispatch_rules[0]", "can never be entered"),
            id="a PIN with a letter",
        ),
        pytest.param(
            'dispatch_rules:\n  - {rule: {dispatch_rule_direct: {room_name: one, pin: "80428617804286178"}}}\n',
            (":4: dispatch_rules[0]", "can never be entered"),
            id="a PIN of 17 digits",
        ),
        pytest.param(
            'trunks:\n  - {numbers: ["+15550199"], auth_username: u, auth_password: open sesame}\n'
            'phone_numbers:\n  - {e164_format: "+15550199"}\n',
            (":6: phone_numbers[0]", "ST_config000000"),
            id="a number of our own that is a trunk's too",
        ),
        pytest.param(
            'trunks:\n  - {numbers: ["+15550100"], allowed_addresses: [203.0.113.0/33]}\n',
            (":4: trunks[0]", "203.0.113.0/33"),
            id="a mask that is none",
        ),
        pytest.param(
            'trunks:\n  - numbers: ["+15550100"]\n    ringing_timeout_status: 200\n',
            (":5: trunks[0].ringing_timeout_status: 200 ends no call",),
            id="a status that ends no call",
        ),
        pytest.param("trunks:\n  - {name: anybody}\n", (":4: trunks[0]",), id="a trunk that would let everybody in"),
        pytest.param(
            'trunks:\n  - {sip_trunk_id: ST_a, numbers: ["+1"]}\n  - {sip_trunk_id: ST_a, numbers: ["+2"]}\n',
            (":5: trunks[1] is called ST_a, as trunks[0] is",),
            id="two trunks of one name",
        ),
    ],
)
def test_given_objects_that_do_not_go_together_then_the_error_names_both_and_no_secret(
    tmp_path: Path, text: str, says: tuple[str, ...]
) -> None:
    reason = why_not(tmp_path, text)
    for part in says:
        assert part in reason
    assert "80428617" not in reason
    assert "open sesame" not in reason


def test_given_a_trusted_endpoint_of_no_trunk_then_the_error_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "roomline.yaml"
    path.write_text('pbx:\n  - name: hq\n    ami: {secret: "x"}\n    trusted_endpoints:\n      carrier-a: ST_nobody\nstore: file\n')
    with pytest.raises(ConfigurationError, match=r"roomline.yaml:5: pbx\[0\].trusted_endpoints.carrier-a there is no trunk 'ST_nobody'"):
        Settings.load(path, {}).sound()


def test_given_what_may_lie_in_the_store_then_only_a_file_that_is_all_there_is_has_to_have_it(tmp_path: Path) -> None:
    objects = "dispatch_rules: [{trunk_ids: [ST_x], rule: {dispatch_rule_direct: {room_name: r}}}]\n"
    numbers = 'phone_numbers: [{e164_format: "+1", sip_dispatch_rule_id: SDR_x}]\n'
    for store in ("sqlite:///a.db", "redis://127.0.0.1/0"):
        loaded = load(tmp_path, objects + numbers + f"store: {store}\n").sound()
        assert loaded.warnings == []
    loaded = load(tmp_path, objects + numbers + "store: file\n")
    assert ["'SDR_x'" in error for error in loaded.errors] == [True]
    assert ["'ST_x'" in warning for warning in loaded.warnings] == [True]


def test_given_secrets_then_no_picture_of_the_settings_shows_them(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        'trunks:\n  - {numbers: ["+1"], auth_username: u, auth_password: open sesame}\n'
        'dispatch_rules:\n  - {rule: {dispatch_rule_direct: {room_name: one, pin: "80428617"}}}\n',
    )
    for picture in (repr(loaded.settings), str(loaded.settings), repr(loaded.settings.pbx[0].options())):
        assert "80428617" not in picture
        assert "open sesame" not in picture
        assert "'x'" not in picture
