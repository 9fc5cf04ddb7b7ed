"""The configuration of the FreeSWITCH that plays the operator's PBX: as an operator would have it, with Roomline's files in it.

The counterpart of `pbx_config`: what a caller hears of the operator (fallback, hold music) is the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import quoteattr

from bridge.shipped import shipped_folders
from bridge.testing.get_freeswitch import MODULES
from bridge.testing.pbx_config import CARRIER_ENDPOINT, FALLBACK_HZ, OUT_ENDPOINT
from bridge.testing.ports import LOOPBACK

REALM = "trunks.test"
"""What callers with a password are asked for it by."""

_PLACEHOLDER = "CHANGE-ME"


@dataclass(frozen=True, slots=True)
class SwitchSettings:
    """Ports and secrets of one FreeSWITCH. `directory`: where Roomline's API is, which is asked about callers with a password; `public` is
    a second place to listen for SIP, for softphones from elsewhere."""

    event_port: int
    password: str = field(repr=False)
    sip_port: int
    password_sip_port: int
    rtp: tuple[int, int]
    hold_music: Path
    carrier_host: str
    directory: str
    directory_secret: str = field(repr=False)
    public: tuple[str, int] | None = None


def dialplan_folder() -> Path:
    """Where what an operator includes lies."""
    return shipped_folders()["freeswitch"]


def switch_file(settings: SwitchSettings, folder: Path) -> str:
    """freeswitch.xml, all in one. `folder` is where this FreeSWITCH keeps what it writes."""
    return f"""<?xml version="1.0"?>
<document type="freeswitch/xml">
<section name="configuration">
{_core(settings, folder)}
{_shipped("event_socket.conf.xml", settings.password).replace('"8021"', f'"{settings.event_port}"')}
{_shipped("xml_curl.conf.xml", settings.directory_secret).replace("127.0.0.1:8880", settings.directory)}
{_sofia(settings)}
</section>
<section name="dialplan">
{_dialplan()}
</section>
<section name="directory">
  <domain name={quoteattr(REALM)}><groups><group name="carriers"><users>
    <user id="{CARRIER_ENDPOINT}" cidr="{settings.carrier_host}/32">
      <variables><variable name="user_name" value="{CARRIER_ENDPOINT}"/></variables>
    </user>
  </users></group></groups></domain>
</section>
</document>
"""


def _shipped(name: str, secret: str) -> str:
    """To the letter what an operator copies, with a secret of this run's."""
    text = (dialplan_folder() / name).read_text()
    if text.count(_PLACEHOLDER) != 1:
        raise RuntimeError(f"{name} has no place for its secret")
    return text.replace(_PLACEHOLDER, secret)


def _settings(**values: object) -> str:
    return "".join(f"<param name={quoteattr(name.replace('_', '-'))} value={quoteattr(str(value))}/>" for name, value in values.items())


def _core(settings: SwitchSettings, folder: Path) -> str:
    first, last = settings.rtp
    core = _settings(
        loglevel="debug",
        rtp_start_port=first,
        rtp_end_port=last,
        sessions_per_second=200,
        max_sessions=1000,
        core_db_name=folder / "db" / "core.db",
    )
    modules = "".join(f'<load module="{name}"/>' for name in MODULES)
    music = _settings(rate=8000, channels=1, interval=20, timer_name="soft")
    levels = "info,notice,warning,err,crit,alert"
    return f"""<configuration name="switch.conf"><settings>{core}</settings></configuration>
<configuration name="modules.conf"><modules>{modules}</modules></configuration>
<configuration name="logfile.conf"><settings/><profiles><profile name="default"><settings/>
  <mappings><map name="all" value="debug,{levels}"/></mappings></profile></profiles></configuration>
<configuration name="console.conf"><mappings><map name="all" value="warning,err,crit,alert"/></mappings></configuration>
<configuration name="acl.conf"><network-lists><list name="carriers" default="allow">
  <node type="allow" domain={quoteattr(REALM)}/></list></network-lists></configuration>
<configuration name="local_stream.conf">
  <directory name="default" path={quoteattr(str(settings.hold_music))}>{music}</directory></configuration>"""


def _sofia(settings: SwitchSettings) -> str:
    common = {
        "context": "from-outside",
        "dialplan": "XML",
        "rtp_ip": LOOPBACK,
        "inbound_codec_prefs": "PCMU,PCMA,G722",
        "outbound_codec_prefs": "PCMU,PCMA,G722",
        "dtmf_type": "rfc2833",
        "rfc2833_pt": 101,
        "liberal_dtmf": "true",
        "manage_presence": "false",
        "log_auth_failures": "true",
    }
    # Whoever is called is an extension of this very PBX.
    out = _settings(proxy=f"{LOOPBACK}:{settings.sip_port}", realm=LOOPBACK, username="nobody", password="none", register="false")  # noqa: S106  (there is none)
    gateway = f'<gateways><gateway name="{OUT_ENDPOINT}">{out}</gateway></gateways>'
    # The list lets everybody past the question for a password; who calls from the carrier's address is known as a user by it.
    opened = _settings(sip_ip=LOOPBACK, sip_port=settings.sip_port, auth_calls="true", apply_inbound_acl="carriers", **common)
    asked = _settings(
        sip_ip=LOOPBACK, sip_port=settings.password_sip_port, auth_calls="true", challenge_realm=REALM, accept_blind_auth="false", **common
    )
    profiles = f'<profile name="open">{gateway}<settings>{opened}</settings></profile>\n'
    profiles += f'<profile name="passwords"><settings>{asked}</settings></profile>\n'
    if settings.public is not None:
        host, port = settings.public
        everywhere = {**common, "rtp_ip": host}
        profiles += f'<profile name="public"><settings>{_settings(sip_ip=host, sip_port=port, **everywhere)}</settings></profile>\n'
    return f'<configuration name="sofia.conf"><global_settings/><profiles>\n{profiles}</profiles></configuration>'


_LAB: Mapping[str, Sequence[tuple[str, str]]] = {
    "quiet": [("answer", ""), ("sleep", "60000")],
    "ring": [("ring_ready", ""), ("sleep", "60000")],
    "late": [("ring_ready", ""), ("sleep", "4000"), ("answer", ""), ("sleep", "60000")],
    "leave": [("answer", ""), ("sleep", "500"), ("hangup", "")],
    "reject-([0-9]{3})": [("respond", "$1")],
}
"""Who can be called: the same as the Asterisk's (`pbx_config`)."""


def _lab() -> str:
    extensions = []
    for name, said in _LAB.items():
        actions = "".join(f"<action application={quoteattr(application)} data={quoteattr(data)}/>" for application, data in said)
        condition = f'<condition field="destination_number" expression={quoteattr(f"^lab-{name}$")}>{actions}</condition>'
        extensions.append(f"  <extension name={quoteattr(name)}>{condition}</extension>")
    return "\n".join(extensions)


def _dialplan() -> str:
    milliwatt = f"tone_stream://%(1000,0,{FALLBACK_HZ:g});loops=-1"
    return f"""<X-PRE-PROCESS cmd="include" data="{dialplan_folder() / "roomline.xml"}"/>
<!-- What an operator writes: everything from outside goes to a room. -->
<context name="from-outside">
{_lab()}
  <extension name="rooms"><condition field="destination_number" expression="^([-0-9A-Za-z+*#._]+)$">
    <action application="set" data="roomline_fallback=operator XML operator"/>
    <action application="transfer" data="$1 XML roomline"/>
  </condition></extension>
</context>
<context name="operator">
  <extension name="operator"><condition field="destination_number" expression="^operator$">
    <action application="answer"/>
    <action application="playback" data="{milliwatt}"/>
  </condition></extension>
</context>"""
