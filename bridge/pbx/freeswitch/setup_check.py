"""What an operator still has to do to a FreeSWITCH before it can send calls here: asked of the FreeSWITCH itself, over its event socket."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from xml.etree.ElementTree import Element, ParseError, fromstring

from bridge.errors import Unavailable
from bridge.model.credentials import TrunkCredentials
from bridge.model.finding import Finding
from bridge.pbx.freeswitch.facts import CODECS
from bridge.pbx.freeswitch.options import FreeSwitchOptions
from bridge.pbx.freeswitch.places import CONTEXT, FALLBACK, HEARTBEAT
from bridge.pbx.freeswitch.wire import Down, Up, Wire

_MODULES: Final = {
    "mod_commands": "carries out what Roomline asks for, and keeps the calls' leases",
    "mod_dptools": "parks calls, answers them, has them ring",
    "mod_dialplan_xml": "reads roomline.xml",
    "mod_sofia": "carries calls by SIP",
}
_WISHED: Final = {
    "mod_local_stream": "plays while a call has lost its sound",
    "mod_tone_stream": "sounds while a caller is handed on",
}
_WELL_KNOWN: Final = frozenset({"ClueCon", "CHANGE-ME"})
_LEASE_CHECK: Final = "roomline-check"
_BETWEEN_LOOKS = 1.5  # seconds: a heart beats each second

_WAY_THERE: Final = "start FreeSWITCH and load mod_event_socket, with event_socket.conf.xml from dialplan/freeswitch"
_WAY_IN: Final = "compare pbx[].esl with event_socket.conf.xml: its password, and whether apply-inbound-acl lets this host in"
_INCLUDE: Final = "copy roomline.xml from dialplan/freeswitch to conf/dialplan/, then `reloadxml`"
_BINDING: Final = (
    "take xml_curl.conf.xml from dialplan/freeswitch, with api.directory.secret and api.listen's address; then `reload mod_xml_curl`"
)


async def check_freeswitch(options: FreeSwitchOptions, trunks: Sequence[TrunkCredentials]) -> Sequence[Finding]:
    """Log in, look, leave. Commands nothing of any call's. `trunks`: those with a user and a password."""
    wire = Wire(options.wire())
    running = asyncio.create_task(wire.run())
    try:
        async for item in wire.items():
            match item:
                case Down(reason):
                    return [Finding(False, reason, _WAY_IN if "password" in reason or "denied" in reason.lower() else _WAY_THERE)]
                case Up(version):
                    return [Finding(True, f"the event socket answers ({version.partition(' (')[0]})"), *await _look(wire, options, trunks)]
        return []
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _look(wire: Wire, options: FreeSwitchOptions, trunks: Sequence[TrunkCredentials]) -> list[Finding]:
    trusted = set(options.trusted_users.values())
    asked = [trunk for trunk in trunks if trunk.trunk_id not in trusted]
    try:
        return [
            _password(options),
            *await _modules(wire),
            await _dialplan(wire),
            await _fallback(wire),
            await _lease(wire),
            await _calls(wire),
            *await _profiles(wire, has_to_ask=bool(asked)),
            *(await _directory(wire, len(asked), options) if asked else ()),
            await _controller(wire),
        ]
    except Unavailable as error:
        return [Finding(False, str(error), "look into FreeSWITCH's log")]


def _password(options: FreeSwitchOptions) -> Finding:
    if options.password in _WELL_KNOWN:
        todo = "choose one of your own in event_socket.conf.xml, and say it in pbx[].esl"
        return Finding(False, "the event socket's password is one that everybody knows: who is let in there may do anything", todo)
    return Finding(True, "the event socket has a password of its own")


async def _modules(wire: Wire) -> list[Finding]:
    found = []
    for module, why in {**_MODULES, **_WISHED}.items():
        if (await wire.api(f"module_exists {module}")).text == "true":
            found.append(Finding(True, f"{module} is loaded"))
        else:
            needed = False if module in _MODULES else None
            found.append(Finding(needed, f"{module} is not loaded: it {why}", f"load it in modules.conf.xml (`load {module}`)"))
    return found


async def _located(wire: Wire, where: str) -> Element | None:
    """What FreeSWITCH has read of its configuration. It may hold secrets: nothing of it is said."""
    text = (await wire.api(f"xml_locate {where}")).text
    try:
        return fromstring(text) if text.startswith("<") else None  # noqa: S314  (what the operator's own FreeSWITCH has parsed itself)
    except ParseError:
        return None


async def _dialplan(wire: Wire) -> Finding:
    context = await _located(wire, f"dialplan context name {CONTEXT}")
    if context is None or context.tag != "context":
        return Finding(False, f"the dialplan has no context {CONTEXT}", _INCLUDE)
    said = [f"{action.get('application')} {action.get('data')}" for action in context.iter() if action.tag.endswith("action")]
    for part in ("sched_api", f"set {FALLBACK}=", "rtp_timer_name=soft", "srtp_allow_idle_gaps=true", "send_silence_when_idle=0", "park"):
        if not any(part in action for action in said):
            return Finding(False, f"the context {CONTEXT} is not that of this version: it has no {part.strip()}", _INCLUDE)
    return Finding(True, f"the dialplan has roomline.xml; send calls in with transfer `$1 XML {CONTEXT}`")


async def _fallback(wire: Wire) -> Finding:
    target = (await wire.api(f"global_getvar {FALLBACK}")).text
    if not target or target.startswith("-"):
        todo = f"set {FALLBACK} before each transfer to us, or for all calls in vars.xml: a queue, a voicemail"
        return Finding(None, "callers whom nobody takes hear that the network is busy, unless your dialplan names a fallback", todo)
    _, _, context = target.rpartition(" ")
    if await _located(wire, f"dialplan context name {context}") is None:
        return Finding(False, f"the fallback {target} is not in the dialplan", f"correct {FALLBACK}: extension, dialplan, context")
    return Finding(True, f"callers whom nobody takes go to {target}")


async def _lease(wire: Wire) -> Finding:
    """One that does nothing, and is taken back at once."""
    added = await wire.api(f"sched_api +60 {_LEASE_CHECK} echo")
    await wire.api(f"sched_del {_LEASE_CHECK}")
    if not added.text.startswith("+OK"):
        return Finding(False, "FreeSWITCH schedules no commands: a call would have no lease", "load mod_commands, and look into its log")
    return Finding(True, "FreeSWITCH keeps leases: calls do not outlast a server that dies")


async def _calls(wire: Wire) -> Finding:
    if (await wire.api("show channels as json")).text.startswith("{"):
        return Finding(True, "FreeSWITCH tells which calls are up: a server that starts anew takes its calls over")
    todo = "start it without -nosql"
    return Finding(False, "FreeSWITCH does not tell which calls are up: a server that starts anew would not find its calls", todo)


async def _profiles(wire: Wire, *, has_to_ask: bool) -> list[Finding]:
    """The SIP profiles as they are written. By which of them calls come here the dialplan knows: what some have wrong is no error."""
    root = await _located(wire, "configuration configuration name sofia.conf")
    profiles = {
        profile.get("name", ""): {param.get("name", "").lower(): param.get("value", "") for param in profile.iter("param")}
        for profile in (root.iter("profile") if root is not None else ())
    }
    if not profiles:
        todo = "look at step 3 of dialplan/freeswitch/README.md yourself: codecs, and who makes a call's id"
        return [Finding(None, "FreeSWITCH does not show its SIP profiles: nothing of them was looked at", todo)]
    found = []
    for wrong, says, todo in _PROFILE_RULES:
        if bad := [name for name, said in profiles.items() if wrong(said)]:
            everywhere = len(bad) == len(profiles)
            found.append(Finding(False if everywhere else None, f"SIP profile {', '.join(bad)}: {says}", todo))
    if has_to_ask and not any(_is_on(said, "auth-calls") for said in profiles.values()):
        todo = "auth-calls=true in the SIP profile by which the callers of these trunks come"
        found.append(Finding(False, "no SIP profile asks anybody for a password: nobody gets in by the trunks that have one", todo))
    return found or [Finding(True, f"the SIP profiles leave codecs, calls' ids and audio to Roomline ({', '.join(profiles)})")]


def _is_on(said: Mapping[str, str], name: str) -> bool:
    return said.get(name, "").lower() in ("true", "yes", "on", "1", "enabled", "active", "allow", "t")


def _has_none_of_ours(said: Mapping[str, str]) -> bool:
    prefs = said.get("inbound-codec-prefs") or said.get("codec-prefs") or ""
    # `PCMU@20i,G722`, or a variable that nobody has set, of which nothing can be said.
    return prefs != "" and "$" not in prefs and not {name.partition("@")[0].strip().upper() for name in prefs.split(",")} & set(CODECS)


_PROFILE_RULES: Final[Sequence[tuple[Callable[[Mapping[str, str]], bool], str, str]]] = (
    (_has_none_of_ours, f"its callers have no codec in common with Roomline: it allows none of {', '.join(CODECS)}", "inbound-codec-prefs"),
    (
        lambda said: _is_on(said, "inbound-use-callid-as-uuid"),
        "callers choose the ids of their calls, and Roomline takes none of those",
        "take inbound-use-callid-as-uuid out of the profile",
    ),
    (
        lambda said: any(_is_on(said, name) for name in ("inbound-bypass-media", "inbound-no-media", "inbound-proxy-media")),
        "the audio of its calls does not come to FreeSWITCH, or not to be heard",
        "take inbound-bypass-media and inbound-proxy-media out of the profile",
    ),
)


async def _directory(wire: Wire, asked: int, options: FreeSwitchOptions) -> list[Finding]:
    """Where FreeSWITCH would ask; whether it gets an answer there only a call shows."""
    if not options.has_directory:
        text = f"nobody gets in by the {asked} trunks with a password: nothing here answers what FreeSWITCH asks"
        return [Finding(False, text, "set api.listen and api.directory.secret")]
    if (await wire.api("module_exists mod_xml_curl")).text != "true":
        return [Finding(False, f"mod_xml_curl is not loaded: nobody gets in by the {asked} trunks with a password", _BINDING)]
    found = await _located(wire, "configuration configuration name xml_curl.conf")
    for binding in found.iter("binding") if found is not None else ():
        said = {param.get("name", ""): param for param in binding.iter("param")}
        url = said.get("gateway-url")
        if url is None or not (url.get("value") or "").endswith("/freeswitch/directory"):
            continue
        if "directory" not in (url.get("bindings") or ""):
            return [Finding(False, "the binding of mod_xml_curl to Roomline is not for the directory", _BINDING)]
        credentials = said.get("gateway-credentials")
        if credentials is None or credentials.get("value", "").endswith(":CHANGE-ME"):
            return [Finding(False, "the binding of mod_xml_curl to Roomline has no secret", _BINDING)]
        return [Finding(True, "mod_xml_curl asks Roomline about callers with a password")]
    return [Finding(False, f"mod_xml_curl does not ask Roomline: nobody gets in by the {asked} trunks with a password", _BINDING)]


async def _controller(wire: Wire) -> Finding:
    """Two looks, since a heartbeat that stands still is nobody's."""
    before = (await wire.api(f"global_getvar {HEARTBEAT}")).text
    await asyncio.sleep(_BETWEEN_LOOKS)
    after = (await wire.api(f"global_getvar {HEARTBEAT}")).text
    if before and not before.startswith("-") and before != after:
        return Finding(True, "a Roomline server commands this FreeSWITCH now; one more would take it over")
    return Finding(True, "no Roomline server commands this FreeSWITCH now")
