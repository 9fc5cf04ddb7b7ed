"""The configuration of the Asterisk that plays the carrier: it calls the PBX by SIP and gives the test process the callers' audio.

Each codec and way of sending keys has its endpoint, so that a call chooses by name. It accepts no calls from anybody.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from bridge.testing.asterisk_config import QUIET, ManagerUser, logger_conf, manager_conf, modules_conf, rtp_conf, transport
from bridge.testing.asterisk_process import Manager

EAR_CONTEXT = "ear"
"""Where an answered call goes: extension = the rate in Hz its ear wants; EAR_ID and EAR_ADDRESS say which ear."""

TRANSFERRED, TRANSFERRED_HZ = "handed-on", 1004.0
"""Where a caller may be handed on to by REFER, and what is heard there."""

CODECS = {"ulaw": 8000, "alaw": 8000, "slin": 8000, "g722": 16000, "slin16": 16000}
"""What a caller may speak, and the rate at which we hear them."""


class Keys(StrEnum):
    """How a caller's key presses travel."""

    RFC4733 = "rfc4733"  # events in the RTP stream
    INFO = "info"  # SIP INFO


@dataclass(frozen=True, slots=True)
class Softphone:
    """An account named `softphone` for a person's phone; whatever it dials goes on to `to`."""

    port: int
    password: str = field(repr=False)
    to: tuple[str, int]


@dataclass(frozen=True, slots=True)
class CarrierSettings:
    """Where the carrier listens. A host of its own on loopback (127/8 is all there already) lets a PBX tell it from others."""

    manager: Manager
    sip_port: int
    rtp: tuple[int, int]
    host: str = "127.0.0.2"
    softphone: Softphone | None = None


def endpoint_name(codec: str, keys: Keys) -> str:
    return f"pbx-{codec}-{keys}"


def carrier_files(settings: CarrierSettings) -> Mapping[str, str]:
    """The files of its configuration folder, by name."""
    return {
        **QUIET,
        "modules.conf": modules_conf(carrier=True),
        "logger.conf": logger_conf(),
        "manager.conf": manager_conf(settings.manager.port, [ManagerUser(settings.manager.user, settings.manager.secret)]),
        "rtp.conf": rtp_conf(*settings.rtp),
        "pjsip.conf": _pjsip(settings),
        "extensions.conf": _extensions() + ("" if settings.softphone is None else _softphone_extensions(settings.softphone)),
    }


def _pjsip(settings: CarrierSettings) -> str:
    text = "[global]\ntype=global\nuser_agent=Carrier\n\n" + transport("carrier", settings.host, settings.sip_port)
    for codec in CODECS:
        for keys in Keys:
            text += (
                f"[{endpoint_name(codec, keys)}]\ntype=endpoint\ntransport=carrier\ncontext=nobody\ndisallow=all\nallow={codec}\n"
                f"dtmf_mode={keys}\ndirect_media=no\nrtp_symmetric=no\nmedia_address={settings.host}\nbind_rtp_to_media_address=yes\n\n"
            )
    if settings.softphone is not None:
        text += _softphone_account(settings.softphone)
    return text


def _softphone_account(softphone: Softphone) -> str:
    return (
        f"[softphone]\ntype=auth\nauth_type=userpass\nusername=softphone\npassword={softphone.password}\n\n"
        "[softphone]\ntype=aor\nmax_contacts=2\nremove_existing=yes\n\n"
        "[softphone]\ntype=endpoint\ntransport=carrier\ncontext=softphone\nauth=softphone\naors=softphone\ndisallow=all\n"
        "allow=ulaw,alaw,g722\ndirect_media=no\nrtp_symmetric=yes\nforce_rport=yes\nrewrite_contact=yes\n\n"
    )


def _softphone_extensions(softphone: Softphone) -> str:
    host, port = softphone.to
    endpoint = endpoint_name("ulaw", Keys.RFC4733)
    return f"""
[softphone]
exten => _[0-9+*#]!,1,Dial(PJSIP/{endpoint}/sip:${{EXTEN}}@{host}:{port})
"""


def _extensions() -> str:
    # The application brings 8 kHz only; for wideband the channel driver does, with a bridge between.
    return f"""[general]
static=yes
writeprotect=yes

[nobody]
exten => {TRANSFERRED},1,Answer()
 same => n,Milliwatt()

[{EAR_CONTEXT}]
exten => 8000,1,AudioSocket(${{EAR_ID}},${{EAR_ADDRESS}})
 same => n,Hangup()
exten => 16000,1,Dial(AudioSocket/${{EAR_ADDRESS}}/${{EAR_ID}}/c(slin16),10,g)
 same => n,Hangup()
"""
