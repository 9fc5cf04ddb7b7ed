"""`./run demo`: real calls from a carrier's Asterisk through a PBX into Roomline's rooms, told as they happen.

Everything runs on loopback and ends with this process. The calls themselves are in `demo_calls`, their telling in `demo_story`.
"""

import argparse
import asyncio
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from bridge.errors import RoomlineError
from bridge.rooms.livekit_lookup import LiveKitLookup
from bridge.rooms.options import LiveKitAccess
from bridge.testing.agent import Agent
from bridge.testing.demo_calls import AgentCalls, CallResult, DemoCalls
from bridge.testing.demo_config import AGENT, AGENT_NUMBERS, CONFIGURATION, NUMBERS, livekit_configuration
from bridge.testing.demo_story import Storyteller
from bridge.testing.get_freeswitch import get_freeswitch
from bridge.testing.livekit_server import LiveKitServer, get_livekit_server
from bridge.testing.stack import Configuration, Stack

_INTERRUPTED = 130  # what a shell reports for a program ended by Ctrl-C


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line."""

    once: bool
    json: bool
    calls: bool
    sip: tuple[str, int] | None
    config: Path | None
    livekit: str | None
    """Its URL; empty for one of our own; None for local rooms."""
    keep: Path | None
    api: "ApiOptions | None" = None
    store: str | None = None
    freeswitch: bool = False
    """The PBX is one."""


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """LiveKit's API beside the demo. `made`: nobody gave the key, so that it has to be told."""

    host: str
    port: int
    key: str
    secret: str = field(repr=False)
    made: bool

    @property
    def url(self) -> str:
        return f"http://{_reachable(self.host)}:{self.port}"


def main() -> int:
    options = _options(sys.argv[1:])
    # With --json the story goes to standard error: standard output holds the one line that programs read.
    story = Storyteller(Console(stderr=options.json, highlight=False))
    try:
        return asyncio.run(_run(options, story))
    except (KeyboardInterrupt, asyncio.CancelledError):
        story.say("\ninterrupted: everything has ended", "dim")
        return _INTERRUPTED


async def _run(options: Options, story: Storyteller) -> int:
    _end_on(signal.SIGTERM)
    results: list[CallResult] = []
    try:
        async with AsyncExitStack() as cleaning:
            if options.livekit is None:
                configuration, calls = _configuration(options.config), DemoCalls
            else:
                configuration, calls = await _with_livekit(options.livekit, cleaning, story), AgentCalls
            if (api := options.api) is not None:
                configuration = {**configuration, "api": {"listen": f"{api.host}:{api.port}", "keys": {api.key: api.secret}}}
            if options.store is not None:
                configuration = {**configuration, "store": options.store}
            freeswitch = await asyncio.to_thread(get_freeswitch) if options.freeswitch else None
            stack = Stack(configuration, freeswitch=freeswitch, keep=options.keep, public=options.sip, progress=story.progress)
            await cleaning.enter_async_context(stack)
            if options.calls:
                recordings = options.keep / "heard" if options.keep else Path(tempfile.mkdtemp(prefix="roomline-demo-"))
                results = await calls(stack, story, recordings).all()
                story.say(f"\nWhat each caller heard: {recordings}/*.wav", "dim")
            if not options.once:
                await _stay_up(stack, options, story)
    except RoomlineError as error:
        story.say(f"\n{error}", "bold red")
        return _finish(options, results, str(error))
    return _finish(options, results, "")


def _finish(options: Options, results: Sequence[CallResult], error: str) -> int:
    ok = not error and all(result.ok for result in results)
    if options.json:
        outcome: dict[str, Any] = {"ok": ok, "calls": [result.to_json() for result in results]}
        print(json.dumps({**outcome, "error": error} if error else outcome), flush=True)
    return 0 if ok else 1


async def _stay_up(stack: Stack, options: Options, story: Storyteller) -> None:
    """Until Ctrl-C; tells each call that a softphone makes. Raises RoomlineError when a part of the stack ends meanwhile."""
    host, port = options.sip or stack.pbx.sip_address
    address = f"{_reachable(host)}:{port}"
    if options.config is None:
        story.numbers(address, NUMBERS if options.livekit is None else AGENT_NUMBERS)
    else:
        story.say(f"\nThe PBX listens for SIP at {address}; its numbers are those of {options.config}.", "bold")
    if (api := options.api) is not None:
        story.say("\nLiveKit's API for trunks, rules and numbers is served too. For LiveKit's command line and SDKs:", "bold")
        story.say(f"  export LIVEKIT_URL={api.url} LIVEKIT_API_KEY={api.key} LIVEKIT_API_SECRET={api.secret if api.made else '…'}")
    story.say(f"Logs and configuration: {stack.folder}", "dim")
    story.say("Ctrl-C ends it.", "dim")
    told = {record.call_id for record in stack.server.call_records()}
    parts = {"the PBX": stack.pbx.child, "the carrier": stack.asterisk_carrier.process.child, "Roomline": stack.server.child}
    try:
        while True:
            await asyncio.sleep(0.5)
            for name, child in parts.items():
                if not child.running:
                    raise RoomlineError(f"{name} ended with status {child.returncode}; its log: {child.log}")
            for record in stack.server.call_records():
                if record.call_id not in told:
                    told.add(record.call_id)
                    room = f"into room {record.room}" if record.room else "into no room"
                    seconds = record.ended_at - record.started_at
                    story.say(f"· {record.number} called {record.called}: {room}, {seconds:.0f} s, ended: {record.end_reason.value}")
    except asyncio.CancelledError:
        # Ctrl-C is the way out that the text above names: no error, and no cancellation for what comes after.
        if (task := asyncio.current_task()) is not None:
            task.uncancel()
        story.say("\nended", "dim")


async def _with_livekit(url: str, cleaning: AsyncExitStack, story: Storyteller) -> Configuration:
    """A LiveKit with the demo's agent: the one at `url`, or one of our own. Raises RoomlineError."""
    folder = Path(cleaning.enter_context(tempfile.TemporaryDirectory(prefix="roomline-livekit-")))
    if url:
        missing = [name for name in ("LIVEKIT_API_KEY", "LIVEKIT_API_SECRET") if not os.environ.get(name)]
        if missing:
            raise RoomlineError(f"--livekit {url} needs {' and '.join(missing)} in the environment: LiveKit's key and secret")
        access = LiveKitAccess(url, os.environ["LIVEKIT_API_KEY"], os.environ["LIVEKIT_API_SECRET"])
        rooms = {"kind": "livekit", "url": url, "key": access.key, "secret": {"env": "LIVEKIT_API_SECRET"}}
        lookup = LiveKitLookup(access)
        try:
            await lookup.probe()
        finally:
            await lookup.close()
    else:
        binary = await asyncio.to_thread(get_livekit_server, story.progress)
        story.progress("starting LiveKit")
        server = await cleaning.enter_async_context(LiveKitServer(binary, folder))
        access, rooms = server.access, server.rooms()
    story.progress("starting the agent")
    await cleaning.enter_async_context(Agent(access, folder, AGENT))
    return livekit_configuration(rooms)


def _configuration(path: Path | None) -> Configuration:
    if path is None:
        return CONFIGURATION
    try:
        found = yaml.safe_load(path.read_text())
    except OSError as error:
        raise RoomlineError(f"{path}: cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise RoomlineError(f"{path}: {error}") from error
    if not isinstance(found, dict):
        raise RoomlineError(f"{path}: a roomline.yaml is a mapping (trunks: …, dispatch_rules: …)")
    return found


def _end_on(number: signal.Signals) -> None:
    """End in order on this signal too, as asyncio does on Ctrl-C."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


def _reachable(host: str) -> str:
    """An address to type into a softphone: for 0.0.0.0 the one by which this machine reaches others."""
    if host != "0.0.0.0":  # noqa: S104  (compared, not bound)
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1 (RFC 5737): picks a route, sends nothing
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address


_EPILOG = """
examples:
  ./run demo                            four calls, then stays up for your softphone
  ./run demo --once --json              four calls, then one JSON object; exit status 0 only if all went as they should
  ./run demo --sip 0.0.0.0:5060         softphones from other machines can call too
  ./run demo --livekit                  the same calls into a LiveKit server's rooms, where an agent greets them
  ./run demo --livekit wss://HOST       in the LiveKit you have, with LIVEKIT_API_KEY and LIVEKIT_API_SECRET from the environment
  ./run demo --api 127.0.0.1:8880       LiveKit's API beside it: create a trunk or a rule with lk or an SDK, and call
  ./run demo --pbx freeswitch           the same with the FreeSWITCH on PATH, or the one that FREESWITCH=PATH names
  ./run demo --no-calls --config my.yaml --sip 127.0.0.1:5070 --keep /tmp/lab
                                        a stack to test against: your trunks, rules, numbers and rooms

The first start unpacks Asterisk into your cache folder (some 16 MB, a few seconds; one on PATH, or named with ASTERISK=PATH, is
used instead). `--livekit` without a URL takes a livekit-server from PATH, or builds one with Go, which takes some minutes the first
time. Nothing needs root, nothing is installed.
"""


def _options(arguments: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="./run demo",
        description="Real phone calls into rooms: a carrier's Asterisk calls a PBX, which hands the calls to Roomline.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--once", action="store_true", help="make the four calls and end, instead of staying up")
    parser.add_argument("--json", action="store_true", help="print the outcome as one JSON object on the last line of standard output")
    parser.add_argument("--no-calls", action="store_true", help="make no calls, just stay up")
    parser.add_argument("--pbx", choices=("asterisk", "freeswitch"), default="asterisk", help="which PBX; a FreeSWITCH has to be here")
    parser.add_argument("--sip", type=_sip_address, metavar="HOST:PORT", help="where the PBX listens for SIP besides loopback")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="another roomline.yaml for trunks, rules, numbers and rooms; implies --no-calls"
    )
    parser.add_argument(
        "--livekit", nargs="?", const="", metavar="URL", help="LiveKit's rooms: those of the server at URL, or of one started here"
    )
    parser.add_argument(
        "--api", type=_listening_address, metavar="HOST:PORT", help="serve LiveKit's API for trunks, rules and numbers there"
    )
    parser.add_argument(
        "--api-key", type=_key_and_secret, metavar="KEY:SECRET", help="whose tokens are believed; left out: one is made and told"
    )
    parser.add_argument("--store", metavar="URL", help="where what is configured over the API lasts (sqlite:///PATH, redis://HOST:PORT/DB)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep logs, sounds and configuration there")
    given = parser.parse_args(arguments)
    calls = not given.no_calls and given.config is None
    if given.once and not calls:
        parser.error("--once makes the demo's four calls, which --no-calls and --config leave out")
    if given.livekit is not None and given.config is not None:
        parser.error("--livekit brings its own configuration; with --config, say `rooms: {kind: livekit, …}` there")
    if given.api_key is not None and given.api is None:
        parser.error("--api-key is for --api")
    api = None
    if given.api is not None:
        host, port = given.api
        key, secret = given.api_key or ("devkey", secrets.token_urlsafe(32))
        api = ApiOptions(host, port, key, secret, made=given.api_key is None)
    keep = given.keep.resolve() if given.keep else None
    freeswitch = given.pbx == "freeswitch"
    return Options(given.once, given.json, calls, given.sip, given.config, given.livekit, keep, api, given.store, freeswitch)


def _key_and_secret(text: str) -> tuple[str, str]:
    key, colon, secret = text.partition(":")
    if not (key and colon and secret):
        # Without the text: it may hold a secret.
        raise argparse.ArgumentTypeError("it is not KEY:SECRET")
    return key, secret


def _listening_address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


def _sip_address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    host = host or "0.0.0.0"  # noqa: S104  (the person asks to be called from elsewhere)
    try:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            with socket.socket(socket.AF_INET, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, int(port)))
    except OSError as error:
        raise argparse.ArgumentTypeError(f"the PBX cannot listen at {text}: {error.strerror}") from error
    return host, int(port)


if __name__ == "__main__":
    sys.exit(main())
