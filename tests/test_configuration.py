"""The file as a person writes it: what is no YAML, where things stand, what the environment changes, where secrets come from."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.configuration import dotted, read_configuration, undotted
from bridge.errors import ConfigurationError


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "roomline.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def why_not(path: Path, environment: dict[str, str] | None = None, sections: tuple[str, ...] = ()) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read_configuration(path, environment or {}, sections)
    return str(caught.value)


def test_given_a_file_then_every_key_knows_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "pbx:\n  - name: hq\n    ami:\n      port: 1\nlog: {level: info}\n")
    file = read_configuration(path, {})
    assert file.data == {"pbx": [{"name": "hq", "ami": {"port": 1}}], "log": {"level": "info"}}
    assert file.where(("pbx", 0, "ami", "port")) == f"{path}:4"
    assert file.where(("log", "level")) == f"{path}:5"
    assert file.where(("log", "what is not there")) == f"{path}:5"
    assert file.where(()) == f"{path}:1"


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_given_an_empty_file_then_it_is_an_empty_configuration(tmp_path: Path, text: str) -> None:
    assert read_configuration(write(tmp_path, text), {}).data == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("a: 1\n\tb: 2\n", "roomline.yaml:2: ", id="a tab"),
        pytest.param("a: [1, 2\n", "roomline.yaml:2: ", id="a bracket that is not closed"),
        pytest.param("a:\n  b: 1\n  b: 2\n", "roomline.yaml:3: a.b stands here twice", id="a key twice"),
        pytest.param("- a\n- b\n", "roomline.yaml:1: the file must be a mapping (key: value), not list", id="a list"),
        pytest.param("just words\n", "roomline.yaml:1: the file must be a mapping (key: value), not str", id="words"),
        pytest.param(b"a: \xff\xfe\n", "roomline.yaml: is not UTF-8 (byte 3)", id="no UTF-8"),
        pytest.param("a: \x00\n", "roomline.yaml: this is no YAML", id="a NUL"),
        pytest.param("a: 1\n---\nb: 2\n", "roomline.yaml:2: ", id="two documents"),
        pytest.param("a: !!python/object:os.system {}\n", "roomline.yaml", id="a tag of Python's"),
        pytest.param("a: !secret x\n", "roomline.yaml:1: !secret is a tag", id="a tag of its own"),
        pytest.param("a: 2026-99-99\n", "roomline.yaml:1: a: is no value", id="a date that is none"),
        pytest.param("a: &a [*a]\n", "holds an alias of itself", id="an alias of itself"),
        pytest.param("[" * 5000 + "]" * 5000, "is nested too deeply", id="5,000 brackets"),
    ],
)
def test_given_what_is_no_configuration_then_the_error_names_the_place(tmp_path: Path, text: str | bytes, says: str) -> None:
    assert says in why_not(write(tmp_path, text))


def test_given_aliases_of_aliases_then_they_are_refused_before_they_fill_the_memory(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 12)]
    assert "repeat it too many times over" in why_not(write(tmp_path, "\n".join(lines)))


def test_given_an_honest_alias_then_it_is_what_it_stands_for(tmp_path: Path) -> None:
    path = write(tmp_path, "offices: &offices [203.0.113.0/24]\ntrunks:\n  - allowed_addresses: *offices\n")
    assert read_configuration(path, {}).data["trunks"][0]["allowed_addresses"] == ["203.0.113.0/24"]


@pytest.mark.parametrize("kind", ["missing", "a folder"])
def test_given_no_file_to_read_then_the_error_says_so(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "roomline.yaml"
    if kind == "a folder":
        path.mkdir()
    assert why_not(path).startswith(f"{path}: cannot be read: ")


# --- the environment ----------------------------------------------------------------------------------------------------


def test_given_variables_then_they_lie_over_the_file_and_are_named_as_the_place(tmp_path: Path) -> None:
    path = write(tmp_path, "pbx:\n  - ami: {port: 5038}\ncalls: {limit: 10}\n")
    file = read_configuration(
        path,
        {
            "ROOMLINE_PBX__0__AMI__PORT": "5039",
            "ROOMLINE_CALLS__LIMIT": "20",
            "ROOMLINE_MEDIA__LISTEN": "127.0.0.1:9999",
            "ROOMLINE_PHONE_NUMBERS": '[{e164_format: "+15550199"}]',
            "OTHERS": "1",
        },
    )
    assert file.data == {
        "pbx": [{"ami": {"port": 5039}}],
        "calls": {"limit": 20},
        "media": {"listen": "127.0.0.1:9999"},
        "phone_numbers": [{"e164_format": "+15550199"}],
    }
    assert file.where(("calls", "limit")) == "ROOMLINE_CALLS__LIMIT"


def test_given_a_section_from_the_environment_then_the_secret_it_names_is_one_and_no_key(tmp_path: Path) -> None:
    path = write(tmp_path, "calls: {limit: 10}\n")
    variables = {"ROOMLINE_PBX": "[{name: fs, esl: {secret: {env: ROOMLINE_ESL_SECRET}}}]", "ROOMLINE_ESL_SECRET": "word"}
    file = read_configuration(path, variables, sections=("pbx", "calls"))
    assert file.data["pbx"] == [{"name": "fs", "esl": {"secret": "word"}}]
    assert file.warnings == ()


@pytest.mark.parametrize("name", ["ROOMLINE_PBX__7__NAME", "ROOMLINE_CALLS__LIMIT__X", "ROOMLINE_PBX__FIRST"])
def test_given_a_variable_of_a_place_that_is_not_there_then_the_error_names_it(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, "pbx:\n  - name: hq\ncalls: {limit: 10}\n")
    assert why_not(path, {name: "1"}).startswith(f"{name}: ")


def test_given_a_variable_of_somebody_elses_then_it_is_left_alone_with_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path, "calls: {limit: 10}\n")
    file = read_configuration(path, {"ROOMLINE_PORT": "tcp://10.0.0.1:8880", "ROOMLINE_CALLS__LIMIT": "3"}, ("calls",))
    assert file.data == {"calls": {"limit": 3}}
    assert file.warnings == ("ROOMLINE_PORT is no key of the configuration, and left alone",)


# --- secrets ------------------------------------------------------------------------------------------------------------

SECRETIVE = "pbx:\n  - ami:\n      secret: {source}\ntrunks:\n  - auth_password: {source}\ndispatch_rules:\n  - rule: {{pin: {source}}}\n"


def test_given_secrets_in_the_environment_and_in_files_then_they_are_fetched(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from a file\n")
    for source, environment, expected in (
        ("{env: ROOMLINE_AMI_SECRET}", {"ROOMLINE_AMI_SECRET": "from the environment"}, "from the environment"),
        (f"{{file: {tmp_path / 'secret'}}}", {}, "from a file"),
    ):
        file = read_configuration(write(tmp_path, SECRETIVE.format(source=source)), environment, ("pbx", "trunks", "dispatch_rules"))
        assert file.data["pbx"][0]["ami"]["secret"] == expected
        assert file.data["trunks"][0]["auth_password"] == expected
        assert file.data["dispatch_rules"][0]["rule"]["pin"] == expected
        assert file.literal_secrets == ()
        assert file.warnings == ()


def test_given_a_secret_in_the_file_itself_then_its_place_is_known(tmp_path: Path) -> None:
    file = read_configuration(write(tmp_path, "pin: {attempts: 2}\n" + SECRETIVE.format(source='"x"')), {})
    assert {dotted(place) for place in file.literal_secrets} == {
        "pbx[0].ami.secret",
        "trunks[0].auth_password",
        "dispatch_rules[0].rule.pin",
    }


def test_given_a_secret_in_a_variable_of_its_own_place_then_it_is_taken_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path, "pbx:\n  - ami: {secret: x}\n")
    file = read_configuration(path, {"ROOMLINE_PBX__0__AMI__SECRET": "0123"})
    assert file.data["pbx"][0]["ami"]["secret"] == "0123"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("{env: NOT_SET}", "pbx[0].ami.secret: the environment variable NOT_SET is not set"),
        ("{env: EMPTY}", "pbx[0].ami.secret: the environment variable EMPTY is not set"),
        ("{file: /does/not/exist}", "pbx[0].ami.secret: the file /does/not/exist cannot be read: No such file"),
        ("{file: FOLDER}", "cannot be read: Is a directory"),
        ("{file: FOLDER/empty}", "is empty"),
        ("{file: FOLDER/binary}", "is no text"),
        ("{vault: x}", "a secret is a text, {env: NAME} or {file: PATH}"),
        ("{env: A, file: B}", "a secret is a text, {env: NAME} or {file: PATH}"),
        ("{env: 7}", "a secret is a text, {env: NAME} or {file: PATH}"),
        ("{}", "a secret is a text, {env: NAME} or {file: PATH}"),
    ],
)
def test_given_a_secret_that_cannot_be_had_then_the_error_names_key_and_line(tmp_path: Path, source: str, says: str) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    path = write(tmp_path, SECRETIVE.format(source=source.replace("FOLDER", str(tmp_path))))
    reason = why_not(path, {"EMPTY": ""})
    assert reason.startswith(f"{path}:3: ")
    assert says in reason


# --- places -------------------------------------------------------------------------------------------------------------

KEYS = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)


@given(st.lists(st.one_of(KEYS, st.integers(0, 99)), max_size=6), KEYS)
def test_given_any_place_then_its_text_leads_back_to_it(rest: list[str | int], first: str) -> None:
    place = (first, *rest)
    assert undotted(dotted(place)) == place


@given(st.binary(max_size=200))
def test_given_any_bytes_then_they_are_read_or_refused_and_nothing_else(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = write(tmp_path_factory.mktemp("any"), data)
    with contextlib.suppress(ConfigurationError):
        assert isinstance(read_configuration(path, {}).data, dict)
