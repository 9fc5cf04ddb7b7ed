"""The carrier as a program of its own, for containers: `call` places one call and tells it, `demo` the usual ones, `serve` takes a
softphone's calls to the PBX.

The PBX is at $PBX (host:port). Exit status of `call`: 0 in the room, 1 not, 2 could not call; of `demo`: 0 when each went as it should.
"""

import argparse
import asyncio
import json
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bridge.errors import RoomlineError
from bridge.testing.caller import Caller, Outcome, Plan, Told
from bridge.testing.carrier import Carrier, CarrierCall, SipAddress
from bridge.testing.carrier_config import Softphone
from bridge.testing.carrier_health import DEFAULT_PBX, SIP_PORT, own_address, pbx_address
from bridge.testing.demo_story import Storyteller
from bridge.testing.get_asterisk import get_asterisk

_INTERRUPTED = 130  # what a shell reports for a program ended by Ctrl-C

_OPEN_RULES = {
    "local": ("an open rule: its announcer comes", Plan("2001"), Outcome.IN_ROOM),
    "livekit": ("an open rule, and nobody in the room: it rings", Plan("2001", ring=5.0), Outcome.UNANSWERED),
}
"""By $ROOMS, which names the file of docker/config that the numbers stand in; of one that is somebody's own, the first is supposed."""


def demo_calls(rooms: str) -> Sequence[tuple[str, Plan, Outcome]]:
    """What is called, and what that file makes of it."""
    return (
        ("the right PIN", Plan("2000", pin="1234"), Outcome.IN_ROOM),
        ("a wrong PIN", Plan("2000", pin="9999"), Outcome.WRONG_PIN),
        ("a number without a rule", Plan("2099"), Outcome.REFUSED),
        _OPEN_RULES.get(rooms, _OPEN_RULES["local"]),
    )


def main() -> int:
    options = _options(sys.argv[1:])
    # Where standard output is for programs, people read on standard error.
    story = Storyteller(Console(stderr=options.json or options.save == Path("-"), highlight=False))
    try:
        return asyncio.run(_run(options, story))
    except (KeyboardInterrupt, asyncio.CancelledError):
        story.say("\ninterrupted", "dim")
        return _INTERRUPTED
    except RoomlineError as error:
        story.say(str(error), "bold red")
        return 2
    except OSError as error:
        story.say(f"the PBX cannot be found: {os.environ.get('PBX', DEFAULT_PBX)}: {error.strerror or error}", "bold red")
        return 2


async def _run(options: argparse.Namespace, story: Storyteller) -> int:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101  (a coroutine that asyncio.run runs has one)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    pbx = await asyncio.to_thread(pbx_address)
    host = own_address(pbx)
    asterisk = await asyncio.to_thread(get_asterisk, story.progress)
    serving = options.command == "serve"
    softphone = Softphone(SIP_PORT, _softphone_password(), pbx) if serving else None
    with tempfile.TemporaryDirectory(prefix="carrier-") as folder:
        async with Carrier(asterisk, Path(folder), host=host, calls_at_once=10, softphone=softphone) as carrier:
            carrier.default_to = pbx
            if serving:
                return await _serve(host, pbx, story)
            if options.command == "demo":
                return await _demo(Caller(carrier, story), story)
            return await _call(Caller(carrier, story), options, story)


async def _call(caller: Caller, options: argparse.Namespace, story: Storyteller) -> int:
    # Two that call from containers of their own are two callers: in LiveKit a participant is known by the number.
    number = options.caller or f"+15559{secrets.randbelow(10**6):06}"
    told, call = await caller.call(Plan(options.number, options.pin, options.talk, options.hertz, options.ring, number))
    story.say(f"\n→ {_verdict(told)}", "bold green" if told.ok else "bold red")
    if options.save is not None:
        await asyncio.to_thread(_save, call, options.save)
    if options.json:
        print(json.dumps(told.to_json(), ensure_ascii=False), flush=True)
    return 0 if told.ok else 1


async def _demo(caller: Caller, story: Storyteller) -> int:
    good = True
    for name, plan, wanted in demo_calls(os.environ.get("ROOMS", "local")):
        story.say(f"\n{name}:", "bold")
        told, _ = await caller.call(plan)
        right = told.outcome is wanted
        story.verdict([] if right else [f"{_verdict(told)}; it should be: {wanted}"])
        good = good and right
    return 0 if good else 1


async def _serve(host: str, pbx: SipAddress, story: Storyteller) -> int:
    story.say(f"a softphone registers as `softphone` at {host}:{SIP_PORT}, and what it dials goes to {pbx[0]}:{pbx[1]}")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        # SIGTERM is how a container is ended: no error.
        if (task := asyncio.current_task()) is not None:
            task.uncancel()
    return 0


def _verdict(told: Told) -> str:
    status = f", SIP {told.sip_status}" if told.outcome is Outcome.REFUSED else ""
    return f"{told.outcome}{status}, {told.ended_after:.1f} s"


def _save(call: CarrierCall, path: Path) -> None:
    if path == Path("-"):
        with tempfile.TemporaryDirectory() as folder:
            call.heard.save(file := Path(folder) / "heard.wav")
            sys.stdout.buffer.write(file.read_bytes())
    else:
        call.heard.save(path)


def _softphone_password() -> str:
    password = os.environ.get("SOFTPHONE_PASSWORD", "")
    if not password.isalnum():
        raise RoomlineError("SOFTPHONE_PASSWORD: letters and digits, and it has to be given: docker/environment makes one")
    return password


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="carrier", description="Calls the PBX at $PBX, from an Asterisk of its own.")
    parser.set_defaults(json=False, save=None)
    commands = parser.add_subparsers(dest="command", required=True)
    call = commands.add_parser("call", help="place one call, and tell what happens")
    call.add_argument("number", help="the called number")
    call.add_argument("--pin", default="", help="entered, with #, once the prompt is heard")
    call.add_argument("--from", dest="caller", default="", metavar="NUMBER", help="the calling number; else one by chance")
    call.add_argument("--talk", type=float, default=4.0, metavar="SECONDS", help="how long a tone is said, before the caller hangs up (4)")
    call.add_argument("--hertz", type=float, default=1200.0, help="which tone (1200); an echo of it is heard back")
    call.add_argument("--ring", type=float, default=60.0, metavar="SECONDS", help="how long the caller waits for an answer (60)")
    call.add_argument("--save", type=Path, metavar="FILE", help="what was heard, as a WAV file; - for standard output")
    call.add_argument("--json", action="store_true", help="the outcome as one JSON object on standard output")
    commands.add_parser("demo", help="four calls: the right PIN, a wrong one, no rule, an open rule")
    commands.add_parser("serve", help=f"stay, with an account for a softphone (port {SIP_PORT})")
    given = parser.parse_args(arguments)
    if given.json and given.save == Path("-"):
        parser.error("--json and --save - both want standard output")
    return given


if __name__ == "__main__":
    sys.exit(main())
