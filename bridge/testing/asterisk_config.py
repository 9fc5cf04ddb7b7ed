"""Configuration files that any Asterisk of ours needs: which modules, the log, the manager's users, RTP, SIP's transport.

What makes it a PBX or a carrier stands in `pbx_config` and `carrier_config`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bridge.testing.ports import LOOPBACK

_CORE = """
res_timing_timerfd res_sorcery_config res_sorcery_memory res_sorcery_astdb res_sorcery_memory_cache res_crypto
res_security_log res_mutestream pbx_config
codec_ulaw codec_alaw codec_a_mu codec_g722 codec_resample format_wav format_pcm format_sln
bridge_simple bridge_native_rtp bridge_softmix bridge_holding bridge_builtin_features
"""
_SIP = """
res_rtp_asterisk res_srtp res_pjproject res_pjsip res_pjsip_session res_pjsip_pubsub res_pjsip_sdp_rtp res_pjsip_caller_id
res_pjsip_diversion res_pjsip_dtmf_info res_pjsip_empty_info res_pjsip_authenticator_digest
res_pjsip_outbound_authenticator_digest res_pjsip_endpoint_identifier_ip res_pjsip_endpoint_identifier_user
res_pjsip_endpoint_identifier_anonymous res_pjsip_header_funcs res_pjsip_acl res_pjsip_nat res_pjsip_refer res_pjsip_registrar
res_pjsip_rfc3326 res_pjsip_logger chan_pjsip
"""
_DIALPLAN = """
app_dial app_echo app_exec app_milliwatt app_playback app_playtones app_senddtmf app_stack app_transfer app_userevent app_verbose
app_originate func_base64 func_callerid func_channel func_cut func_db func_dialplan func_env func_global func_groupcount
func_hangupcause func_holdintercept func_logic func_math func_module func_pjsip_aor func_pjsip_contact func_pjsip_endpoint
func_sprintf func_strings func_sysinfo func_timeout func_uri func_uuid func_volume
res_audiosocket app_audiosocket chan_audiosocket
"""
_PBX_ONLY = """
res_musiconhold res_http_websocket res_websocket_client res_stasis app_stasis res_stasis_answer res_stasis_playback
res_stasis_recording res_stasis_snoop res_ari_model res_ari res_ari_applications res_ari_asterisk res_ari_bridges
res_ari_channels res_ari_endpoints res_ari_events
"""


QUIET: Mapping[str, str] = {
    "cdr.conf": "[general]\nenable=no\n",
    "indications.conf": "[general]\ncountry=us\n[us]\ndescription = United States\nbusy = 480+620/500,0/500\n"
    "dial = 350+440\nring = 440+480/2000,0/4000\ncongestion = 480+620/250,0/250\nringcadence = 2000,4000\n",
    **{f"{name}.conf": "" for name in ("acl", "ccss", "cel", "features", "pjproject", "stasis", "udptl", "websocket_client")},
}
"""Files that Asterisk complains about when they are missing, and nothing of ours is in: its log shall show what matters."""


def modules_conf(*, carrier: bool) -> str:
    """What is loaded (for a carrier without ARI and hold music), and nothing else: Asterisk is up in a second. A module that
    an older version lacks costs one line in its log."""
    names = (_CORE + _SIP + _DIALPLAN + ("" if carrier else _PBX_ONLY)).split()
    return "[modules]\nautoload=no\n" + "".join(f"load = {name}.so\n" for name in names)


def logger_conf() -> str:
    """Warnings and more to standard output, which the process's log keeps; the whole story in full.log."""
    levels = "notice,warning,error"
    return f"[general]\ndateformat=%F %T.%3q\n[logfiles]\nconsole => {levels}\nfull.log => {levels},verbose(3)\n"


def http_conf(port: int) -> str:
    return f"[general]\nenabled=yes\nbindaddr={LOOPBACK}\nbindport={port}\n"


def rtp_conf(first: int, last: int) -> str:
    return f"[general]\nrtpstart={first}\nrtpend={last}\n"


@dataclass(frozen=True, slots=True)
class ManagerUser:
    """One user of the manager. `lines` are its rights, as manager.conf has them."""

    name: str
    secret: str
    lines: Sequence[str] = ("read = all", "write = all")

    def __repr__(self) -> str:
        return f"ManagerUser({self.name!r})"


def manager_conf(port: int, users: Sequence[ManagerUser]) -> str:
    """The AMI on loopback. A slow reader is given time: a test may stop one on purpose."""
    text = f"[general]\nenabled=yes\nbindaddr={LOOPBACK}\nport={port}\n"
    for user in users:
        text += f"\n[{user.name}]\nsecret={user.secret}\ndeny=0.0.0.0/0.0.0.0\npermit={LOOPBACK}/255.255.255.255\n"
        text += "".join(f"{line}\n" for line in user.lines)
    return text


def transport(name: str, host: str, port: int) -> str:
    """One SIP transport on UDP and one on TCP; the one on TCP has `-tcp` behind its name."""
    udp = f"[{name}]\ntype=transport\nprotocol=udp\nbind={host}:{port}\n"
    return udp + f"\n[{name}-tcp]\ntype=transport\nprotocol=tcp\nbind={host}:{port}\n\n"
