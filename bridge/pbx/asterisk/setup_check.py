"""What an operator still has to do to an Asterisk before it can send calls here: asked of the Asterisk itself, over its AMI."""

import asyncio
from collections.abc import Sequence

from bridge.errors import Unavailable
from bridge.model.finding import Finding
from bridge.pbx.asterisk.dialing import CALLED
from bridge.pbx.asterisk.options import AsteriskOptions
from bridge.pbx.asterisk.pbx import HEARTBEAT
from bridge.pbx.asterisk.places import CONTEXTS
from bridge.pbx.asterisk.wire import Down, Up, Wire

_CONTEXTS = ("roomline", *sorted(CONTEXTS), "roomline-fallback", "roomline-nobody")
_MODULES = {
    "app_audiosocket.so": "carries the sound of calls",
    "res_audiosocket.so": "carries the sound of calls",
    "chan_audiosocket.so": "carries the sound of wideband calls",
    "app_userevent.so": "tells Roomline of calls",
    "res_musiconhold.so": "plays while a call has lost its sound",
    "func_uri.so": "keeps callers from forging events",
}

_WAY_THERE = "start Asterisk, enable the manager (manager.conf, enabled=yes) and add the user from dialplan/asterisk/manager.conf"
_WAY_IN = (
    "compare pbx[].ami with the user in manager.conf: its secret, and whether its permit lines let this host in; then `manager reload`"
)
_INCLUDE = "#include roomline.conf in extensions.conf, then `dialplan reload`"


async def check_asterisk(options: AsteriskOptions) -> Sequence[Finding]:
    """Log in, look, leave. Commands nothing."""
    wire = Wire(options.wire())
    running = asyncio.create_task(wire.run())
    try:
        async for item in wire.items():
            match item:
                case Down(reason):
                    return [Finding(False, reason, _WAY_IN if "refused the user" in reason else _WAY_THERE)]
                case Up(version):
                    return [Finding(True, f"the AMI answers (manager {version})"), *await _look(wire, options)]
        return []
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _look(wire: Wire, options: AsteriskOptions) -> list[Finding]:
    try:
        allowed = await _may_command(wire, options)
        if not allowed.ok:
            return [allowed]  # nothing else can be seen
        found = [allowed, *await _dialplan(wire), await _fallback(wire), *await _modules(wire), *await _calls_out(wire, options)]
        return [*found, await _controller(wire)]
    except Unavailable as error:
        return [Finding(False, str(error), "look into Asterisk's log")]


async def _get(wire: Wire, expression: str) -> str | None:
    answer = await wire.action("Getvar", {"Variable": expression})
    return answer.value if answer.ok else None


async def _may_command(wire: Wire, options: AsteriskOptions) -> Finding:
    answer = await wire.action("Getvar", {"Variable": HEARTBEAT})
    if "permission" in answer.message.lower():
        return Finding(
            False, f"the user {options.user} may not command calls", "give it `write = call` and `read = call,dtmf,user,security`"
        )
    return Finding(True, f"the user {options.user} may command calls")


async def _dialplan(wire: Wire) -> list[Finding]:
    found = {context: await _get(wire, f"DIALPLAN_EXISTS({context},{_extension(context)},1)") == "1" for context in _CONTEXTS}
    missing = [context for context, there in found.items() if not there]
    if not missing:
        return [Finding(True, "the dialplan includes roomline.conf; send calls in with Goto(roomline,${EXTEN},1)")]
    if len(missing) == len(_CONTEXTS):
        return [Finding(False, "the dialplan does not include roomline.conf", _INCLUDE)]
    return [Finding(False, f"the dialplan has no [{context}]: its roomline.conf is an old one", _INCLUDE) for context in missing]


def _extension(context: str) -> str:
    return "000" if context == "roomline" else "s"


async def _fallback(wire: Wire) -> Finding:
    target = await _get(wire, "ROOMLINE_FALLBACK")
    if not target:
        todo = "set ROOMLINE_FALLBACK=context,extension,priority under [globals]: a queue, a voicemail"
        return Finding(None, "callers whom nobody takes hear congestion: there is no fallback for all calls", todo)
    if await _get(wire, f"DIALPLAN_EXISTS({target})") != "1":
        return Finding(False, f"the fallback {target} is not in the dialplan", "correct ROOMLINE_FALLBACK under [globals]")
    return Finding(True, f"callers whom nobody takes go to {target}")


async def _modules(wire: Wire) -> list[Finding]:
    if await _get(wire, "IFMODULE(app_userevent.so)") not in ("0", "1"):
        todo = f"make sure that these are: {', '.join(_MODULES)}"
        return [Finding(None, "Asterisk does not tell which modules are loaded (func_module.so is not)", todo)]
    return [await _module(wire, module, why) for module, why in _MODULES.items()]


async def _module(wire: Wire, module: str, why: str) -> Finding:
    if await _get(wire, f"IFMODULE({module})") == "1":
        return Finding(True, f"{module} is loaded")
    return Finding(False, f"{module} is not loaded: it {why}", f"load it in modules.conf (`module load {module}`)")


async def _calls_out(wire: Wire, options: AsteriskOptions) -> list[Finding]:
    """Whether we could call somebody, without calling anybody."""
    if not options.outbound_endpoints:
        return []
    # Refused for the right that is missing, or else for the channel that is: nobody is called either way.
    answer = await wire.action("Originate", {"Channel": "", "Context": CALLED, "Exten": "s", "Priority": 1})
    if "permission" in answer.message.lower():
        text = f"pbx[].outbound_endpoints is set, but the user {options.user} may not call out"
        return [Finding(False, text, "give it `write = call,originate` in manager.conf, then `manager reload`")]
    endpoints = sorted(set(options.outbound_endpoints.values()))
    return [Finding(True, f"the user {options.user} may call out"), *[await _endpoint(wire, endpoint) for endpoint in endpoints]]


async def _endpoint(wire: Wire, endpoint: str) -> Finding:
    if await _get(wire, f"PJSIP_ENDPOINT({endpoint},context)"):
        return Finding(True, f"calls out have the endpoint {endpoint}")
    todo = f"correct pbx[].outbound_endpoints, or add [{endpoint}] to pjsip.conf; without func_pjsip_endpoint.so this cannot be seen"
    return Finding(None, f"the endpoint {endpoint} for calls out is not to be found", todo)


async def _controller(wire: Wire) -> Finding:
    """Two looks, since a heartbeat that stands still is nobody's."""
    before = await _get(wire, HEARTBEAT)
    await asyncio.sleep(1.5)
    after = await _get(wire, HEARTBEAT)
    if before and before != after:
        return Finding(True, "a Roomline server commands this Asterisk now; one more would take it over")
    return Finding(True, "no Roomline server commands this Asterisk now")
