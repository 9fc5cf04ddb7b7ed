"""Where an Asterisk is looked for, and what is said when there is none. The download itself is what tests/real stand on."""

import stat
from pathlib import Path

import pytest

from bridge.testing.get_asterisk import NoAsterisk, get_asterisk
from bridge.testing.private_apt import Sources, Target, sources_for

DEBIAN = [
    Target("http://mirror.example/debian-security/", "bookworm-security", "main"),
    Target("http://mirror.example/debian/", "bookworm", "main"),
    Target("http://mirror.example/debian/", "bookworm", "contrib"),
]


def install(prefix: Path, says: str, *, audiosocket: bool = True) -> Path:
    """A program that says it is an Asterisk, with the folders of one."""
    binary = prefix / "sbin" / "asterisk"
    modules = prefix / "lib" / "asterisk" / "modules"
    for folder in (binary.parent, modules, prefix / "share" / "asterisk" / "documentation", prefix / "share" / "asterisk" / "sounds"):
        folder.mkdir(parents=True)
    binary.write_text(f"#!/bin/sh\necho '{says}'\n")
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    if audiosocket:
        (modules / "app_audiosocket.so").touch()
    return binary


def test_given_asterisk_is_named_then_that_one_is_taken(tmp_path: Path) -> None:
    binary = install(tmp_path, "Asterisk 20.6.0~dfsg+~cs6.13.40431414-2build5")
    found = get_asterisk(environ={"ASTERISK": str(binary), "XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert found.command == (str(binary),)
    assert (found.version, found.major) == ("20.6.0", 20)
    assert found.modules == tmp_path / "lib" / "asterisk" / "modules"
    assert found.data.parent == tmp_path / "cache" / "roomline"
    assert (found.data / "sounds").resolve() == tmp_path / "share" / "asterisk" / "sounds"


@pytest.mark.parametrize("text", ["<docs>", ""])
def test_given_documentation_that_cannot_be_read_then_asterisk_has_the_whole_of_it(text: str, tmp_path: Path) -> None:
    binary = install(tmp_path, "Asterisk 22.1.0")
    data = tmp_path / "share" / "asterisk"
    (data / "documentation" / "core-en_US.xml").write_text(text)
    said: list[str] = []
    found = get_asterisk(said.append, environ={"ASTERISK": str(binary), "XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert found.data == data
    assert "takes longer" in said[0]
    assert [path.name for path in (tmp_path / "cache" / "roomline").iterdir()] == ["asterisk-data.lock"], "nothing half made is left"


def test_given_one_on_the_path_then_it_is_found_there(tmp_path: Path) -> None:
    binary = install(tmp_path, "Asterisk certified/20.7-cert1")
    found = get_asterisk(environ={"PATH": str(binary.parent), "XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert (found.command, found.version) == ((str(binary),), "20.7")


@pytest.mark.parametrize(
    ("says", "audiosocket", "reason"),
    [
        ("Asterisk 16.28.0~dfsg-0+deb11u4", True, "needs 18 or newer"),
        ("Asterisk 22.1.0", False, "no module app_audiosocket"),
        ("nonsense", True, "does not say its version"),
    ],
)
def test_given_an_asterisk_that_will_not_do_then_the_reason_is_said(tmp_path: Path, says: str, audiosocket: bool, reason: str) -> None:
    binary = install(tmp_path, says, audiosocket=audiosocket)
    with pytest.raises(NoAsterisk, match=reason):
        get_asterisk(environ={"ASTERISK": str(binary)})


def test_given_a_name_that_is_no_program_then_the_reason_is_said(tmp_path: Path) -> None:
    with pytest.raises(NoAsterisk, match="does not run"):
        get_asterisk(environ={"ASTERISK": str(tmp_path / "nothing")})


def test_given_no_apt_then_it_is_said_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoAsterisk, match="ASTERISK=PATH"):
        get_asterisk(environ={"XDG_CACHE_HOME": str(tmp_path)}, search_path=False)
    assert [path.name for path in (tmp_path / "roomline").iterdir()] == ["asterisk.lock"]


def test_given_debian_12_then_forky_from_the_hosts_own_mirror() -> None:
    found = sources_for({"ID": "debian", "VERSION_CODENAME": "bookworm"}, DEBIAN)
    assert [sources.name for sources in found] == ["Debian forky", "Debian sid"]
    assert found[0].lines[0].endswith("http://mirror.example/debian/ forky main")


def test_given_a_newer_debian_then_its_own_suite_comes_first() -> None:
    found = sources_for({"ID": "debian", "VERSION_CODENAME": "duke"}, [Target("http://mirror.example/debian/", "duke", "main")])
    assert [sources.name for sources in found] == ["Debian duke", "Debian forky", "Debian sid"]


def test_given_ubuntu_then_its_own_suites_with_universe() -> None:
    targets = [Target("http://ubuntu.example/", suite, "main") for suite in ("noble", "noble-updates")]
    (found,) = sources_for({"ID": "ubuntu", "ID_LIKE": "debian", "VERSION_CODENAME": "noble"}, targets)
    assert isinstance(found, Sources)
    assert found.name == "Ubuntu noble"
    assert [line.split()[-2:] for line in found.lines] == [
        ["noble", "main"],
        ["noble", "universe"],
        ["noble-updates", "main"],
        ["noble-updates", "universe"],
    ]


def test_given_an_apt_without_sources_then_there_is_nothing_to_ask() -> None:
    assert sources_for({"ID": "debian"}, []) == []
    assert sources_for({"ID": "ubuntu"}, []) == []
