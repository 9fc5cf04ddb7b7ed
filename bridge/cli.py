"""The command line: `roomline serve | node | check | explain | calls | hangup | transfer | token | import | export | files | version`. What
`import` and `export` do is `cli_objects.py`'s; what is asked of the server that runs, `cli_control.py`'s.

Each command loads what it needs and nothing else: phones ring while a server or a node starts.
"""

import asyncio
import json
import os
import sys
import time
from datetime import datetime
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from bridge.configuration import is_readable_by_others
from bridge.errors import ConfigurationError, RoomlineError, Superseded, Unavailable
from bridge.logs import setup_logs
from bridge.model.credentials import TrunkCredentials
from bridge.model.finding import Finding
from bridge.model.record import CallRecord
from bridge.settings import Loaded, Settings

SUPERSEDED = 3
"""Exit status of a server that a newer one has replaced: to be started again by nobody (systemd: RestartPreventExitStatus=3)."""

USUAL_PLACES = (Path("roomline.yaml"), Path("/etc/roomline/roomline.yaml"))

cli = typer.Typer(
    name="roomline",
    help="Takes phone calls from the PBX you have into rooms.\n\nStart with `roomline check`, then `roomline serve`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", envvar="ROOMLINE_CONFIG", help="the configuration; else ./roomline.yaml, else /etc/roomline/roomline.yaml"
    ),
]
CallArgument = Annotated[str, typer.Argument(metavar="CALL", help="its id, as `roomline calls --live` shows it")]
SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="FILE|URL",
        help="a file of `roomline export`, a roomline.yaml, a store (sqlite:///PATH, redis://…), or LiveKit's address (wss://…; its key "
        "from LIVEKIT_API_KEY and LIVEKIT_API_SECRET)",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="for machines")]


def _show_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@cli.callback()
def _root(
    _version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="show the version")] = False,
) -> None:
    pass


@cli.command()
def version() -> None:
    """Show the version."""
    typer.echo(f"roomline {package_version('roomline')}")


@cli.command(epilog="Example: roomline serve -c /etc/roomline/roomline.yaml")
def serve(config: ConfigOption = None) -> None:
    """Take calls until SIGTERM or Ctrl-C.

    Calls that are up then stay up in the PBX, and the server that starts next goes on with them (`calls.drain` ends them instead). SIGHUP
    reads trunks, rules and numbers anew. Exit status 3: a newer server has taken everything over.
    """
    from bridge.app import serve as serve_until_stopped

    loaded = _load(config).sound()
    setup_logs(loaded.settings.log.level, loaded.settings.log.format)
    try:
        uvloop.run(serve_until_stopped(loaded))
    except Superseded:
        raise typer.Exit(SUPERSEDED) from None


@cli.command(epilog="Example: roomline node 0 -c /etc/roomline/roomline.yaml")
def node(
    place: Annotated[int, typer.Argument(min=0, help="which of media.workers: 0 is the first")],
    config: ConfigOption = None,
    started_by_server: Annotated[bool, typer.Option("--started-by-server", help="end when nobody needs it any more")] = False,
) -> None:
    """Carry the sound of calls in a process of its own, for a server with media.workers.

    It goes on with its calls while servers come and go. SIGTERM: no further calls; it ends with its last one.
    """
    from bridge.node_app import serve_node

    loaded = _load(config).sound()
    if place >= loaded.settings.workers:
        raise ConfigurationError(f"there is no worker {place}: media.workers is {loaded.settings.workers}")
    setup_logs(loaded.settings.log.level, loaded.settings.log.format)
    uvloop.run(serve_node(loaded.settings, place, started_by_server=started_by_server))


@cli.command(epilog="Example: roomline check -c roomline.yaml")
def check(
    config: ConfigOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="ask nobody over the network: neither the PBX nor LiveKit, nor Redis")] = False,
    as_json: JsonOption = False,
) -> None:
    """Read the configuration, ask the PBX and LiveKit, and say what is wrong and what to do. Exit status 0: calls can come."""
    from bridge.cli_objects import check_objects, own_objects
    from bridge.pbx_kinds import check_pbx
    from bridge.store.inventory import inbound_trunks
    from bridge.store.port import Inventory

    setup_logs("error", "text")
    loaded = _load(config)
    findings = [Finding(False, sentence) for sentence in loaded.errors]
    findings += [Finding(None, sentence) for sentence in loaded.warnings]
    findings += _check_files(loaded)
    if not loaded.errors:
        counts = loaded.settings
        text = f"{loaded.file.path}: {len(counts.trunks)} trunks, {len(counts.dispatch_rules)} rules, {len(counts.phone_numbers)} numbers"
        findings.insert(0, Finding(True, text))
    inventory = Inventory()
    # A store in a file is read in any case.
    if not (offline and loaded.settings.store_is_a_server):
        try:
            inventory = own_objects(loaded)
            findings += check_objects(loaded, inventory)
        except Unavailable as error:
            findings.append(Finding(False, str(error), "until then the server does not start"))
    if not offline:
        trunks = inbound_trunks(inventory).values()
        credentials = [TrunkCredentials.of(trunk) for trunk in trunks if trunk.asks_for_credentials]
        for pbx in loaded.settings.pbx:
            found = asyncio.run(check_pbx(pbx, credentials, serves_directory=loaded.settings.api.directory is not None))
            findings += [Finding(finding.ok, f"{pbx.name}: {finding.text}", finding.todo) for finding in found]
        if loaded.settings.rooms.kind == "livekit":
            from bridge.rooms.livekit_check import check_livekit

            findings += asyncio.run(check_livekit(loaded.settings.rooms.access()))
    ok = all(finding.ok is not False for finding in findings)
    if as_json:
        rows = [{"ok": finding.ok, "text": finding.text, "todo": finding.todo} for finding in findings]
        typer.echo(json.dumps({"ok": ok, "findings": rows}, ensure_ascii=False))
    else:
        marks = {True: "✔", False: "✘", None: "!"}
        for finding in findings:
            typer.echo(f"{marks[finding.ok]} {finding.text}" + (f"\n    → {finding.todo}" if finding.todo else ""))
        good = "The configuration is sound; nobody was asked." if offline else "Calls can come."
        typer.echo(f"\n{good if ok else 'Not ready: see ✘ above.'}")
    raise typer.Exit(0 if ok else 1)


@cli.command(epilog="Example: roomline explain --from +15550123 --to +15550100 --source-ip 203.0.113.7 --pin -")
def explain(
    caller: Annotated[str, typer.Option("--from", help="the calling number")],
    called: Annotated[str, typer.Option("--to", help="the called number")],
    source: Annotated[str, typer.Option("--source-ip", help="where the call comes from")] = "",
    host: Annotated[str, typer.Option("--host", help="the host in the From header")] = "",
    trunk: Annotated[str, typer.Option("--trunk", help="the trunk as which the PBX authenticated the caller")] = "",
    pin: Annotated[str | None, typer.Option("--pin", help="what the caller enters; - reads it from standard input")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Why does a call go where it goes? Every trunk and rule in order of priority, with the field that does not fit."""
    from bridge.call.registry import random_letters
    from bridge.cli_objects import own_objects
    from bridge.dispatch.explain import explain as explain_call
    from bridge.model.caller import Caller
    from bridge.store.inventory import directory_of

    loaded = _load(config)
    entered = _read_pin() if pin == "-" else pin
    told = Caller(number=caller, called=called, source_address=source, host=host, trunk_id=trunk)
    explanation = explain_call(
        directory_of(own_objects(loaded), loaded.settings.unknown_trunks),
        told,
        room_suffix=random_letters,
        pin=entered or None,
        no_pin=entered is not None and not entered,
    )
    typer.echo(json.dumps(explanation.to_json(), ensure_ascii=False) if as_json else explanation.to_text())


@cli.command(epilog="Example: roomline calls --limit 5")
def calls(
    config: ConfigOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="how many")] = 20,
    live: Annotated[bool, typer.Option("--live", help="those that are up now, asked of the server's API")] = False,
    as_json: JsonOption = False,
) -> None:
    """The calls that ended last, and why; or those that are up."""
    loaded = _load(config)
    if live:
        from bridge import cli_control

        for call in cli_control.live_calls(loaded)[-limit:]:
            line = cli_control.live_call_line(call, _moment(call.started_at), time.time() - call.started_at)
            typer.echo(call.to_json() if as_json else line)
        return
    for record in reversed(asyncio.run(_records(loaded, limit))):
        typer.echo(record.model_dump_json() if as_json else _record_line(record))


@cli.command(epilog="Example: roomline hangup SCL_2bTgFjGmZkfL")
def hangup(call_id: CallArgument, config: ConfigOption = None) -> None:
    """End a call that is up."""
    from bridge import cli_control

    cli_control.hang_up(_load(config), call_id)


@cli.command(epilog="Example: roomline transfer SCL_2bTgFjGmZkfL tel:+15550100")
def transfer(
    call_id: CallArgument,
    to: Annotated[str, typer.Argument(metavar="TO", help="a sip:, sips: or tel: URI that outbound.allow allows")],
    config: ConfigOption = None,
    dial_tone: Annotated[bool, typer.Option("--dialtone", help="the caller hears one meanwhile")] = False,
    ringing_timeout: Annotated[float, typer.Option("--ringing-timeout", min=1, help="seconds for somebody to take the call")] = 30.0,
) -> None:
    """Hand a caller on to somebody else. Where nobody takes the call, they are back in their room."""
    from bridge import cli_control

    cli_control.hand_on(_load(config), call_id, to, dial_tone=dial_tone, ringing_timeout=ringing_timeout)
    typer.echo(f"{call_id} is handed on to {to}")


@cli.command(epilog="Example: roomline token --admin --ttl 3600")
def token(
    config: ConfigOption = None,
    admin: Annotated[bool, typer.Option("--admin", help="sip.admin: trunks, rules, numbers; see, hang up, hand on every call")] = False,
    call: Annotated[bool, typer.Option("--call", help="sip.call: with --room, hang up its callers and hand them on")] = False,
    room: Annotated[str, typer.Option("--room", help="roomAdmin for this room")] = "",
    identity: Annotated[str, typer.Option("--identity", help="whose it is")] = "",
    ttl: Annotated[float, typer.Option("--ttl", min=1, help="seconds for which it is good")] = 600,
    key: Annotated[str | None, typer.Option("--key", help="which of api.keys signs it; else the first")] = None,
) -> None:
    """A token for the server's API, as LiveKit's tools make them.

    Who has it may do what it grants until it ends: it cannot be taken back.
    """
    from bridge import cli_control

    grants = cli_control.grants_of(admin=admin, call=call, room=room, identity=identity)
    typer.echo(cli_control.token(_load(config), grants, ttl, key))


@cli.command("import", epilog="Example: roomline import wss://livekit.example.com --dry-run")
def import_(
    source: SourceArgument,
    config: ConfigOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the plan, change nothing")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put trunks, rules and numbers from elsewhere into the store.

    The plan is shown first: new, changed, the same, and skipped, with the reason. What is there and not in the source stays. A second time
    changes nothing.
    """
    from bridge.cli_objects import import_objects

    setup_logs("warning", "text")
    import_objects(_load(config), source, dry_run=dry_run, yes=yes, as_json=as_json)


@cli.command(epilog="Example: roomline export --to objects.yaml")
def export(
    config: ConfigOption = None,
    source: Annotated[str | None, typer.Option("--from", metavar="FILE|URL", help="from there, not what decides calls here")] = None,
    target: Annotated[Path | None, typer.Option("--to", help="a file, readable by you alone; else standard output")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write trunks, rules and numbers as YAML, with their passwords and PINs: all that decides calls."""
    from bridge.cli_objects import export_objects

    setup_logs("warning", "text")
    export_objects(_load(config), source, target, as_json=as_json)


@cli.command(epilog="Example: roomline files asterisk --to /etc/asterisk/roomline")
def files(
    name: Annotated[str | None, typer.Argument(help="which folder; without it all are listed")] = None,
    target: Annotated[Path | None, typer.Option("--to", help="copy them there; a file of yours is never overwritten")] = None,
) -> None:
    """What ships with Roomline for your PBX and for systemd, and where it lies."""
    from bridge.shipped import copy_shipped, shipped_folders

    folders = shipped_folders()
    if name is not None and target is not None:
        written = copy_shipped(name, target)
        typer.echo("\n".join(map(str, written)) or f"{target} has them all already")
        return
    if target is not None:
        raise typer.BadParameter(f"copy which? one of {', '.join(folders)}", param_hint="NAME")
    if name is not None and name not in folders:
        raise typer.BadParameter(f"there are {', '.join(folders)}", param_hint="NAME")
    for found in folders if name is None else [name]:
        typer.echo(str(folders[found]) if name else f"{found:<12}{folders[found]}")


async def _records(loaded: Loaded, limit: int) -> list[CallRecord]:
    from bridge.store.sqlite import SqliteStore

    async with SqliteStore(loaded.settings.records_path) as store:
        return list(await store.records(limit))


def _record_line(record: CallRecord) -> str:
    began = _moment(record.started_at)
    where = f"room {record.room}" if record.room else f"SIP {record.sip_status}" if record.sip_status else "no room"
    why = f" ({record.detail})" if record.detail else ""
    seconds = record.ended_at - record.started_at
    end = f"{record.end_reason.value} by {record.ended_by.value}"
    return f"{began}  {record.number or '?'} → {record.called}  {where}  {seconds:.0f} s  {end}{why}"


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _load(config: Path | None) -> Loaded:
    path = config or next((place for place in USUAL_PLACES if place.exists()), None)
    if path is None:
        places = " nor ".join(str(place) for place in USUAL_PLACES)
        raise ConfigurationError(f"there is no configuration: neither {places}; name one with --config")
    return Settings.load(path)


def _check_files(loaded: Loaded) -> list[Finding]:
    from bridge.media.prompts import Prompts

    findings: list[Finding] = []
    if loaded.file.literal_secrets and is_readable_by_others(loaded.file.path):
        todo = f"chmod 600 {loaded.file.path}"
        findings.append(Finding(None, f"{loaded.file.path} holds secrets and is readable by others", todo))
    media = loaded.settings.media
    try:
        Prompts(media.prompts, media.language)
    except ConfigurationError as error:
        findings.append(Finding(False, str(error)))
    for path in loaded.settings.written_files:
        if not os.access(folder := path.resolve().parent, os.W_OK):
            findings.append(Finding(False, f"the store's folder {folder} cannot be written", "make it, and give it to the server's user"))
    return findings


def _read_pin() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("PIN", hide_input=True, default="", show_default=False))
    return sys.stdin.readline().strip()


def main(arguments: list[str] | None = None) -> Any:
    """The `roomline` command. A mistake of the operator's is a sentence and exit status 2, never a traceback."""
    try:
        return cli(args=arguments)
    except RoomlineError as error:
        typer.echo(str(error), err=True)
        sys.exit(2)
