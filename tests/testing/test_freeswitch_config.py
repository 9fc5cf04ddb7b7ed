"""What is shipped for FreeSWITCH is what our own PBX runs, and it is XML as FreeSWITCH wants it."""

from pathlib import Path
from xml.etree.ElementTree import fromstring

import pytest

from bridge.pbx.freeswitch.places import CONTEXT, FALLBACK, PARKED_FOR, lease_group
from bridge.testing.freeswitch_config import SwitchSettings, dialplan_folder, switch_file


@pytest.fixture
def settings(tmp_path: Path) -> SwitchSettings:
    return SwitchSettings(5801, "qqq-1", 5802, 5803, (20_000, 20_100), tmp_path / "music", "127.0.0.2", "127.0.0.1:5804", "zzz-1")


def test_given_settings_then_the_file_is_whole_and_the_shipped_secrets_are_filled_in(settings: SwitchSettings, tmp_path: Path) -> None:
    document = fromstring(switch_file(settings, tmp_path))
    assert [section.get("name") for section in document] == ["configuration", "dialplan", "directory"]
    event_socket = {
        param.get("name"): param.get("value") for param in document.findall(".//configuration[@name='event_socket.conf']/settings/param")
    }
    assert (event_socket["listen-port"], event_socket["password"]) == ("5801", "qqq-1")
    assert event_socket["apply-inbound-acl"] == "loopback.auto"
    curl = {param.get("name"): param.get("value") for param in document.findall(".//binding/param")}
    assert curl["gateway-url"] == "http://127.0.0.1:5804/freeswitch/directory"
    assert curl["gateway-credentials"] == "roomline:zzz-1"
    assert "CHANGE-ME" not in switch_file(settings, tmp_path)
    assert "qqq-1" not in repr(settings)
    assert "zzz-1" not in repr(settings)


def test_given_the_shipped_dialplan_then_its_names_are_those_that_the_adapter_knows() -> None:
    text = (dialplan_folder() / "roomline.xml").read_text()
    (context,) = fromstring(text).findall("context")
    assert context.get("name") == CONTEXT
    actions = [f"{action.get('application')} {action.get('data')}" for action in context.iter() if action.tag.endswith("action")]
    assert actions[-1].startswith("park")
    leases = [action for action in actions if "sched_api" in action]
    assert len(leases) == 2
    for lease in leases:
        # Counted in whole seconds, of which the one that runs is one.
        assert f"sched_api(+{PARKED_FOR + 1} {lease_group('${uuid}')} " in lease
    assert f"set {FALLBACK}=$1" in actions
    assert any("rtp_timer_name=soft" in action for action in actions)


@pytest.mark.parametrize("name", ["event_socket.conf.xml", "xml_curl.conf.xml", "roomline.xml"])
def test_given_the_shipped_files_then_each_is_xml_and_holds_no_secret_of_its_own(name: str) -> None:
    text = (dialplan_folder() / name).read_text()
    fromstring(text)
    assert text.count("CHANGE-ME") == (0 if name == "roomline.xml" else 1)
