"""The configuration of the Asterisk that plays the operator's PBX: as an operator would have it, with Roomline's dialplan included.

What a test needs besides stands under extensions of their own, `lab-…`, which work without Roomline.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bridge.shipped import shipped_folders
from bridge.testing.asterisk_config import (
    QUIET,
    ManagerUser,
    http_conf,
    logger_conf,
    manager_conf,
    modules_conf,
    rtp_conf,
    transport,
)
from bridge.testing.asterisk_process import Manager
from bridge.testing.ports import LOOPBACK

FALLBACK_HZ = 1004.0
"""The operator's fallback answers and sounds a milliwatt test tone: whoever hears it has fallen back."""

HOLD_MUSIC_HZ = (330.0, 415.0)
"""Our hold music: two tones that no other sound of a call consists of."""

CARRIER_ENDPOINT = "carrier-a"
"""Calls from the carrier's address come in by this endpoint, all others as `anonymous`."""

OUT_ENDPOINT = "out"
"""By which calls of Roomline's go out, where the PBX may make any."""

_CODECS = "ulaw,alaw,g722,slin16,slin"


@dataclass(frozen=True, slots=True)
class PbxSettings:
    """Ports and secrets of one PBX. `public` is a second place to listen for SIP, for softphones from elsewhere."""

    admin: Manager
    roomline: Manager
    ari_secret: str = field(repr=False)
    http_port: int
    sip_port: int
    rtp: tuple[int, int]
    hold_music: Path
    carrier_host: str
    public: tuple[str, int] | None = None
    lease: int = 3
    outbound: bool = False


def dialplan_folder() -> Path:
    """Where what an operator includes lies."""
    return shipped_folders()["asterisk"]


def roomline_rights(*, outbound: bool) -> tuple[str, ...]:
    """What Roomline's manager user may do: to the letter what the file says that an operator appends to manager.conf, with what it says
    of calls out."""
    lines = (dialplan_folder() / "manager.conf").read_text().partition("[roomline]")[2].splitlines()
    rights = [line for line in lines if line and not line.startswith(("secret", ";"))]
    return tuple(f"{line},originate" if outbound and line.startswith("write =") else line for line in rights)


def pbx_files(settings: PbxSettings) -> Mapping[str, str]:
    """The files of its configuration folder, by name."""
    return {
        **QUIET,
        "modules.conf": modules_conf(carrier=False),
        "logger.conf": logger_conf(),
        "manager.conf": manager_conf(
            settings.admin.port,
            [
                ManagerUser(settings.admin.user, settings.admin.secret),
                ManagerUser(settings.roomline.user, settings.roomline.secret, roomline_rights(outbound=settings.outbound)),
            ],
        ),
        "http.conf": http_conf(settings.http_port),
        "ari.conf": f"[general]\nenabled=yes\n[roomline]\ntype=user\nread_only=no\npassword={settings.ari_secret}\n",
        "rtp.conf": rtp_conf(*settings.rtp),
        "sorcery.conf": _SORCERY,
        "musiconhold.conf": f"[general]\n[default]\nmode=files\ndirectory={settings.hold_music}\n",
        "pjsip.conf": _pjsip(settings),
        "extensions.conf": _extensions(settings),
    }


def _pjsip(settings: PbxSettings) -> str:
    text = "[global]\ntype=global\nuser_agent=PBX\nendpoint_identifier_order=ip,request_uri,username,anonymous\n\n"
    text += transport("loopback", LOOPBACK, settings.sip_port)
    if settings.public is not None:
        text += transport("public", *settings.public)
    for name in (CARRIER_ENDPOINT, "anonymous"):
        text += (
            f"[{name}]\ntype=endpoint\ncontext=from-outside\ndisallow=all\nallow={_CODECS}\ndtmf_mode=auto_info\ndirect_media=no\n"
            "rtp_symmetric=yes\nforce_rport=yes\nrewrite_contact=yes\nallow_transfer=yes\n\n"
        )
    if settings.outbound:
        # Whoever is called by it is an extension of this very PBX.
        text += f"[{OUT_ENDPOINT}]\ntype=endpoint\naors={OUT_ENDPOINT}\ncontext=from-outside\ndisallow=all\nallow={_CODECS}\n"
        text += f"direct_media=no\n\n[{OUT_ENDPOINT}]\ntype=aor\ncontact=sip:{LOOPBACK}:{settings.sip_port}\n\n"
    return text + f"[{CARRIER_ENDPOINT}-address]\ntype=identify\nendpoint={CARRIER_ENDPOINT}\nmatch={settings.carrier_host}\n"


def _extensions(settings: PbxSettings) -> str:
    return f"""[general]
static=yes
writeprotect=yes

[globals]
ROOMLINE_FALLBACK=operator,s,1
ROOMLINE_LEASE={settings.lease}

#include "{dialplan_folder() / "roomline.conf"}"

; What an operator writes: everything from outside goes to a room.
[from-outside]
exten => _[0-9+*#]!,1,Goto(roomline,${{EXTEN}},1)
exten => _[a-zA-Z].,1,Goto(roomline,${{EXTEN}},1)
exten => _lab-.,1,Goto(lab,${{EXTEN:4}},1)

[operator]
exten => s,1,Answer()
 same => n,Milliwatt()

[lab]
exten => echo,1,Answer()
 same => n,Echo()
exten => tone,1,Answer()
 same => n,Milliwatt()
exten => music,1,Answer()
 same => n,StartMusicOnHold()
 same => n,Wait(60)
exten => quiet,1,Answer()
 same => n,Wait(60)
exten => ring,1,Ringing()
 same => n,Wait(60)
exten => late,1,Ringing()
 same => n,Wait(4)
 same => n,Answer()
 same => n,Wait(60)
; A machine that wants to be told 12 before it says anything.
exten => menu,1,Answer()
 same => n,Goto(lab-menu,s,1)
exten => leave,1,Answer()
 same => n,Wait(0.5)
 same => n,Hangup()
exten => _reject-XXX,1,PJSIPHangup(${{EXTEN:7}})

[lab-menu]
exten => s,1,WaitExten(8)
exten => 12,1,Goto(lab,tone,1)
"""


_SORCERY = """[res_pjsip]
auth=config,pjsip.conf,criteria=type=auth
auth=astdb,ps_auths
aor=config,pjsip.conf,criteria=type=aor
aor=astdb,ps_aors
endpoint=config,pjsip.conf,criteria=type=endpoint
endpoint=astdb,ps_endpoints
[res_pjsip_endpoint_identifier_ip]
identify=config,pjsip.conf,criteria=type=identify
identify=astdb,ps_identifies
"""
