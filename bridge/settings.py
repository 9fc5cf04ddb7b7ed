"""What the operator configures: one file, roomline.yaml, every key also by environment. Checked whole before anything starts.

Each part of Roomline defines its own options; here they get names, defaults and errors that a person can act on.
"""

import difflib
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from bridge.api.options import DirectoryOptions
from bridge.call.options import Bucket, PinOptions, RegistryOptions, StoryOptions, ThrottleOptions
from bridge.configuration import ConfigurationFile, Place, dotted, read_configuration, undotted
from bridge.dispatch.addresses import parse_address, parse_mask
from bridge.dispatch.conflicts import Problem, Severity, problems
from bridge.dispatch.directory import Directory, UnknownTrunks
from bridge.errors import ConfigurationError
from bridge.media.options import NodeOptions
from bridge.model.media_address import is_private
from bridge.model.phone_number import PhoneNumber
from bridge.model.rule import DispatchRule
from bridge.model.target import AllowedTargets
from bridge.model.trunk import InboundTrunk
from bridge.model.validation import InvalidObject, check_inbound_trunk
from bridge.pbx_kinds import PBX_SECTIONS, PbxSection
from bridge.rooms.options import BuiltIn, BuiltInKind, LiveKitAccess
from bridge.sections import Part

LIVEKIT_VARIABLES: Final = {"url": "LIVEKIT_URL", "key": "LIVEKIT_API_KEY", "secret": "LIVEKIT_API_SECRET"}
"""What LiveKit's own tools read."""

SHORTEST_SECRET: Final = 32
"""Bytes."""

SQLITE: Final = "sqlite:///"

FILE_STORE: Final = "file"
"""`store`: what stands in the file is all there is."""

LOCAL_CALLS, LIVEKIT_CALLS = 200, 25
"""Calls to a process: LiveKit's SDK has a thread for each track, and falls behind at 40 to 80 (docs/performance.md)."""

MOST_WORKERS_UNASKED: Final = 4

OBJECT_IDS: Final = (
    ("trunks", "sip_trunk_id", "ST_"),
    ("dispatch_rules", "sip_dispatch_rule_id", "SDR_"),
    ("phone_numbers", "id", "PN_"),
)
"""Where the file has LiveKit's objects, the key of their id, and how LiveKit's ids begin."""

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class BuiltInParticipant(Part):
    """Somebody who lives in the embedded rooms."""

    rooms: str = Field(min_length=1, description="which rooms: a name or a glob such as demo-*")
    kind: Literal["echo", "announcer"] = Field(description="echo repeats what it hears, announcer says welcome.wav")
    delay: float = Field(default=0.0, ge=0, le=60, description="seconds: how late the echo is, or when the announcer publishes")
    loop: bool = Field(default=False, description="the announcer begins anew at its end")

    def built_in(self) -> BuiltIn:
        return BuiltIn(rooms=self.rooms, kind=BuiltInKind(self.kind), delay=self.delay, loop=self.loop)


class Rooms(Part):
    """Where callers go."""

    kind: Literal["local", "livekit"] = Field(default="local", description="local: rooms of our own; livekit: a LiveKit server's")
    url: str = Field(default="", description="LiveKit's address, ws:// or wss://; else LIVEKIT_URL")
    key: str = Field(default="", description="LiveKit's API key; else LIVEKIT_API_KEY")
    secret: SecretStr = Field(default=SecretStr(""), description="LiveKit's API secret; else LIVEKIT_API_SECRET")
    lost_limit: Seconds = Field(default=20.0, description="seconds that a caller hears a comfort tone while LiveKit is gone")
    participants: tuple[BuiltInParticipant, ...] = Field(default=(), description="built-in participants of local rooms")

    @model_validator(mode="after")
    def _all_there(self) -> Self:
        if self.kind == "local":
            if self.url or self.key:
                raise ValueError("url and key are LiveKit's: write kind: livekit")
            return self
        missing = [name for name, value in (("url", self.url), ("key", self.key), ("secret", self.secret.get_secret_value())) if not value]
        if missing:
            variables = " and ".join(LIVEKIT_VARIABLES[name] for name in missing)
            raise ValueError(f"LiveKit needs {' and '.join(missing)}: here, or in the environment as {variables}")
        parts = urlsplit(self.url)
        if parts.scheme not in ("ws", "wss", "http", "https") or not parts.hostname:
            raise ValueError("url: LiveKit's address looks like wss://livekit.example.com or ws://127.0.0.1:7880")
        if parts.username or parts.password:
            raise ValueError("url: LiveKit's address has no user and no password in it: key and secret have places of their own")
        if self.participants:
            raise ValueError("participants live in local rooms: in LiveKit's they are agents, which a rule's room_config dispatches")
        return self

    def access(self) -> LiveKitAccess:
        return LiveKitAccess(self.url, self.key, self.secret.get_secret_value())


def _read_address(value: Any) -> Any:
    if isinstance(value, str):
        host, colon, port = value.rpartition(":")
        if not colon or not port.isdigit() or int(port) > 65535:
            raise ValueError("an address is host:port, for example 127.0.0.1:9092")
        return host.strip("[]"), int(port)
    return value


Address = Annotated[tuple[str, int], BeforeValidator(_read_address)]
"""host:port; port 0 takes any free one."""


class Media(Part):
    """The sound of calls."""

    listen: Address = Field(default=("127.0.0.1", 9092), description="where the PBX sends audio (AudioSocket)")
    public_host: str = Field(default="", description="what the PBX connects to, where that is not the listening address")
    max_calls: int | None = Field(default=None, ge=1, description="calls one process carries; left out: 200, and 25 with LiveKit")
    workers: int | None = Field(
        default=None,
        ge=0,
        le=64,
        description="processes of their own that carry the sound and outlive the server; left out: none, with LiveKit one for each core",
    )
    recycle_after: int = Field(default=500, ge=1, description="calls after which a worker that carries none makes way for a fresh one")
    start_workers: bool = Field(default=True, description="the server starts workers that are missing; false where they are services")
    sockets: Path | None = Field(
        default=None, description="the folder of the workers' sockets; left out: systemd's, the user's, or /run/roomline"
    )
    orphan_limit: int = Field(default=30, ge=10, le=3600, description="seconds that callers talk on while the PBX hears nothing of us")
    ringback: Literal["us", "eu", "uk"] = Field(default="us", description="whose tones: us, eu, uk")
    prompts: Path | None = Field(default=None, description="a folder with your own recordings (enter_pin.wav, ringback.wav, …)")
    language: str = Field(default="en", pattern=r"^[a-z]{2}(-[A-Za-z]+)?$", description="the language of our recordings")

    def socket(self, place: int) -> Path:
        """Of the worker in this place."""
        folder = self.sockets
        if folder is None and (of_systemd := os.environ.get("RUNTIME_DIRECTORY")):
            folder = Path(of_systemd.split(":")[0])
        if folder is None and (of_user := os.environ.get("XDG_RUNTIME_DIR")):
            folder = Path(of_user) / "roomline"
        return (folder or Path("/run/roomline")) / f"node-{place}.sock"


class ThrottleBucket(Part):
    """`burst` wrong PINs at once, then one each `refill` seconds."""

    burst: int = Field(ge=1, description="wrong PINs at once")
    refill: Seconds = Field(description="seconds until one more")

    def bucket(self) -> Bucket:
        return Bucket(self.burst, self.refill)


class Throttle(Part):
    """How many wrong PINs, by what they are counted for."""

    source: ThrottleBucket = Field(default=ThrottleBucket(burst=10, refill=60), description="per source address")
    called: ThrottleBucket = Field(default=ThrottleBucket(burst=20, refill=120), description="per called number")
    rule: ThrottleBucket = Field(default=ThrottleBucket(burst=20, refill=300), description="per dispatch rule")

    def options(self) -> ThrottleOptions:
        return ThrottleOptions(self.source.bucket(), self.called.bucket(), self.rule.bucket())


class Pin(Part):
    """How the PIN is asked for."""

    attempts: int = Field(default=1, ge=1, le=10, description="tries in one call")
    first_digit_timeout: Seconds = Field(default=10.0, description="seconds from the prompt's end to the first key")
    digit_timeout: Seconds = Field(default=5.0, description="seconds from key to key")
    throttle: Throttle = Field(default=Throttle(), description="how many wrong PINs over all calls")

    def options(self) -> PinOptions:
        return PinOptions(self.attempts, self.first_digit_timeout, self.digit_timeout)


class Calls(Part):
    """How many calls, and what when something is missing."""

    limit: int = Field(default=100, ge=1, description="calls at the same time")
    over_limit: Literal["reject", "fallback"] = Field(default="reject", description="reject: 503; fallback: the PBX's fallback")
    room_failure: Literal["reject", "fallback"] = Field(default="fallback", description="when a room cannot be had: 503 or the fallback")
    media_timeout: Seconds = Field(default=15.0, description="seconds without RTP from an answered caller after which the call ends")
    media_timeout_initial: Seconds = Field(default=30.0, description="the same, as long as none has ever come")
    drain: float = Field(default=0.0, ge=0, description="seconds that calls may go on after SIGTERM; 0 leaves them up for the next server")

    def story(self, pin: PinOptions, orphan_limit: int) -> StoryOptions:
        return StoryOptions(
            pin=pin,
            orphan_limit=orphan_limit,
            media_timeout=self.media_timeout,
            media_timeout_initial=self.media_timeout_initial,
            over_capacity_falls_back=self.over_limit == "fallback",
            room_failure_falls_back=self.room_failure == "fallback",
        )


class Log(Part):
    """What the server tells."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="from which level on")
    format: Literal["auto", "text", "json"] = Field(default="auto", description="auto: text on a terminal, else JSON")


class Http(Part):
    """Health and metrics."""

    listen: Address | None = Field(default=None, description="/healthz, /readyz and /metrics are served here; nowhere by default")


class DirectoryAccess(Part):
    """Who may ask the directory of trunks with a user and a password (mod_xml_curl)."""

    secret: SecretStr = Field(min_length=16, description="the password in the binding's `gateway-credentials`, 16 characters at least")
    peers: tuple[str, ...] = Field(
        default=("127.0.0.0/8", "::1"),
        min_length=1,
        description="addresses and networks of the FreeSWITCHes; this machine's own by default",
    )

    @field_validator("peers")
    @classmethod
    def _addresses(cls, peers: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [peer for peer in peers if parse_mask(peer) is None]:
            raise ValueError(f"{wrong[0]!r} is no address and no network")
        return peers

    def options(self) -> DirectoryOptions:
        return DirectoryOptions(self.secret.get_secret_value(), self.peers)


class Api(Part):
    """What others ask of us."""

    listen: Address | None = Field(
        default=None, description="LiveKit's API for trunks, rules and numbers, and Roomline's own, are served here; nowhere by default"
    )
    keys: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="API key → its secret, for the tokens of who asks; left out: the key and secret of rooms, where they are LiveKit's",
    )

    directory: DirectoryAccess | None = Field(default=None, description="what a FreeSWITCH asks of callers with a user and a password")

    @model_validator(mode="after")
    def _all_there(self) -> Self:
        if any(not key or not secret.get_secret_value() for key, secret in self.keys.items()):
            raise ValueError("keys: a key and its secret are texts of one character at least")
        return self


class Outbound(Part):
    """Whom the API may have called."""

    allow: tuple[str, ...] = Field(
        default=(),
        description="patterns of numbers (`+49*`) and SIP addresses (`*@sip.example.com`) that may be called, and to which calls may be "
        "handed on; `*` stands for any characters, `?` for one; none by default",
    )

    max_calls: int = Field(default=10, ge=0, description="calls out at the same time")
    max_minutes: float = Field(default=60.0, gt=0, le=1440, description="minutes that a call out may take, whatever its request says")
    max_minutes_per_day: float = Field(
        default=600.0,
        gt=0,
        allow_inf_nan=False,
        description="minutes that all calls out together may talk within 24 hours, by their records; then none goes out any more",
    )

    @field_validator("allow")
    @classmethod
    def _patterns(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        AllowedTargets(allow)
        return allow

    def allowed(self) -> AllowedTargets:
        return AllowedTargets(self.allow)


class Settings(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, validate_default=True)

    pbx: tuple[PbxSection, ...] = Field(min_length=1, description="the phone systems")
    rooms: Rooms = Field(default=Rooms(), description="where callers go")
    media: Media = Field(default=Media(), description="the sound of calls")
    store: str = Field(
        default="sqlite:///roomline.db",
        pattern=r"^(sqlite:///.+|rediss?://.+|file)$",
        repr=False,  # a URL may hold a password
        description="where LiveKit's objects live: sqlite:///PATH, redis://HOST:PORT/DB (LiveKit's own), or file (what stands here is all)",
    )
    records: str | None = Field(
        default=None,
        pattern=r"^sqlite:///.+$",
        description="call records and the count of wrong PINs, sqlite:///PATH; left out: the store's file, or sqlite:///roomline.db",
    )
    http: Http = Field(default=Http(), description="health and metrics")
    api: Api = Field(default=Api(), description="how others ask for things, over HTTP")
    outbound: Outbound = Field(default=Outbound(), description="whom the API may have called")
    calls: Calls = Field(default=Calls(), description="how many, and what when something is missing")
    pin: Pin = Field(default=Pin(), description="how the PIN is asked for")
    log: Log = Field(default=Log(), description="what the server tells")
    unknown_trunks: UnknownTrunks = Field(
        default=UnknownTrunks.ALLOW, description="callers no trunk takes: allow (as LiveKit: rules for any trunk may match) or reject"
    )
    trunks: tuple[InboundTrunk, ...] = Field(default=(), description="LiveKit's SIPInboundTrunkInfo")
    dispatch_rules: tuple[DispatchRule, ...] = Field(default=(), description="LiveKit's SIPDispatchRuleInfo")
    phone_numbers: tuple[PhoneNumber, ...] = Field(default=(), description="numbers of your own, which need no trunk")

    @model_validator(mode="before")
    @classmethod
    def _give_ids(cls, data: Any) -> Any:
        """Objects without an id get one by their place, so that it stays the same from start to start."""
        if isinstance(data, dict):
            for section, key, prefix in OBJECT_IDS:
                items = data.get(section)
                if isinstance(items, list):
                    data[section] = [
                        {key: f"{prefix}config{place:06}", **item} if isinstance(item, dict) else item for place, item in enumerate(items)
                    ]
        return data

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The environment is laid over the file by configuration.py, which knows lists and says where a value came from.
        return (init_settings,)

    @property
    def records_path(self) -> Path:
        """The SQLite file with call records and the count of wrong PINs."""
        url = self.records or (self.store if self.store.startswith(SQLITE) else f"{SQLITE}roomline.db")
        return Path(url.removeprefix(SQLITE))

    @property
    def store_is_a_server(self) -> bool:
        """It has to be asked over the network."""
        return self.store != FILE_STORE and not self.store.startswith(SQLITE)

    @property
    def written_files(self) -> tuple[Path, ...]:
        """The SQLite files, each once."""
        of_store = [Path(self.store.removeprefix(SQLITE))] if self.store.startswith(SQLITE) else []
        return tuple(dict.fromkeys((*of_store, self.records_path)))

    @property
    def workers(self) -> int:
        """How many processes carry the sound; 0: this one does."""
        if self.media.workers is not None:
            return self.media.workers
        return min(os.cpu_count() or 1, MOST_WORKERS_UNASKED) if self.rooms.kind == "livekit" else 0

    @property
    def api_keys(self) -> Mapping[str, SecretStr]:
        """Whose tokens are believed."""
        if self.api.keys or self.rooms.kind != "livekit":
            return self.api.keys
        return {self.rooms.key: self.rooms.secret}

    def node(self, place: int = 0, *, seat_grace: float | None = None) -> NodeOptions:
        """Of the worker in this place: each has a port of its own, in a row."""
        host, port = self.media.listen
        max_calls = self.media.max_calls or (LIVEKIT_CALLS if self.rooms.kind == "livekit" else LOCAL_CALLS)
        return NodeOptions(
            host,
            port + place if port else 0,
            self.media.public_host,
            max_calls=max_calls,
            recycle_after=self.media.recycle_after,
            seat_grace=seat_grace,
        )

    def directory(self) -> Directory:
        return Directory(self.trunks, self.dispatch_rules, self.phone_numbers, self.unknown_trunks)

    def registry(self) -> RegistryOptions:
        return RegistryOptions(call_limit=self.calls.limit, outgoing_limit=self.outbound.max_calls)

    @classmethod
    def load(cls, path: Path, environment: Mapping[str, str] | None = None) -> "Loaded":
        """Read and check the whole file. Raises ConfigurationError that lists everything wrong, each with its line and what to do."""
        file = read_configuration(path, environment, cls.model_fields)
        _livekit_from_environment(file, os.environ if environment is None else environment)
        try:
            settings = cls(**file.data)
        except ValidationError as error:
            raise ConfigurationError("\n".join(_sentences(file, error.errors()))) from None
        return Loaded(settings, file)


class Loaded:
    """Settings that are well formed, and what the objects in them mean together."""

    def __init__(self, settings: Settings, file: ConfigurationFile) -> None:
        self.settings = settings
        self.file = file
        self.errors: list[str] = []
        self.warnings: list[str] = list(file.warnings)
        # What is named and does not stand here may lie in the store: whoever has read both looks (`objects.py`).
        complete = settings.store == FILE_STORE
        for problem in (*problems(settings.directory(), complete=complete), *(self._untrusted() if complete else ())):
            sentence = f"{file.where(undotted(problem.place))}: {problem.place} {problem.text}"
            (self.errors if problem.severity is Severity.ERROR else self.warnings).append(sentence)
        self._check_trunks()
        self._check_names()
        self._check_workers()
        self._check_api_keys()
        self._check_media()

    def _check_api_keys(self) -> None:
        settings = self.settings
        if settings.api.listen is not None and not settings.api_keys and settings.api.directory is None:
            self.errors.append(f"{self.file.where(('api',))}: api.keys: nobody could ask: give it a key and its secret")
        if settings.api.listen is None and settings.api.directory is not None:
            self.errors.append(f"{self.file.where(('api', 'directory'))}: api.directory: it is served at api.listen, which is not set")
        secrets: dict[Place, SecretStr] = {("api", "keys", key): secret for key, secret in settings.api.keys.items()}
        if settings.rooms.kind == "livekit":
            secrets["rooms", "secret"] = settings.rooms.secret
        for place, secret in secrets.items():
            length = len(secret.get_secret_value().encode())
            if length < SHORTEST_SECRET:
                self.warnings.append(
                    f"{self.file.where(place)}: {dotted(place)}: {length} bytes can be guessed from any token; a secret of "
                    f"{SHORTEST_SECRET} or more (RFC 7518 §3.2) is for others than a server that you try things on"
                )

    def _check_workers(self) -> None:
        where, workers = self.file.where(("media", "workers")), self.settings.media.workers
        if self.settings.rooms.kind == "local" and (workers or 0) > 1:
            self.errors.append(f"{where}: media.workers: rooms of kind local live in one process: 0 or 1")
        if self.settings.rooms.kind == "livekit" and workers == 0:
            self.errors.append(f"{where}: media.workers: LiveKit's SDK runs in processes of its own: 1 or more")

    def _check_trunks(self) -> None:
        for index, trunk in enumerate(self.settings.trunks):
            if trunk.ringing_timeout_status and not 400 <= trunk.ringing_timeout_status <= 699:
                where = self.file.where(("trunks", index, "ringing_timeout_status"))
                self.errors.append(
                    f"{where}: trunks[{index}].ringing_timeout_status: {trunk.ringing_timeout_status} ends no call: 400 to 699 do"
                )
            try:
                soft = check_inbound_trunk(trunk)
            except InvalidObject as error:
                self.errors.append(f"{self.file.where(('trunks', index))}: trunks[{index}]: {error}")
            else:
                self.warnings += [f"{self.file.where(('trunks', index))}: trunks[{index}]: {sentence}" for sentence in soft]

    def _check_names(self) -> None:
        lists: tuple[tuple[str, list[str]], ...] = (
            ("pbx", [pbx.name for pbx in self.settings.pbx]),
            ("trunks", [trunk.sip_trunk_id for trunk in self.settings.trunks]),
            ("dispatch_rules", [rule.sip_dispatch_rule_id for rule in self.settings.dispatch_rules]),
            ("phone_numbers", [number.id for number in self.settings.phone_numbers]),
        )
        for section, names in lists:
            for index, name in enumerate(names):
                if name in names[:index]:
                    first = names.index(name)
                    self.errors.append(
                        f"{self.file.where((section, index))}: {section}[{index}] is called {name}, as {section}[{first}] is"
                    )

    def _untrusted(self) -> Iterator[Problem]:
        return trusted_for_nothing(self.settings, {trunk.sip_trunk_id for trunk in self.settings.trunks})

    def _check_media(self) -> None:
        """Audio by datagrams is anybody's who reaches the address; a name is looked at by the node."""
        media = self.settings.media
        host = parse_address(media.public_host or media.listen[0])
        sending = [pbx.name for pbx in self.settings.pbx if pbx.sends_datagrams]
        if host is not None and not is_private(host) and sending:
            self.errors.append(
                f"{self.file.where(('media', 'listen'))}: media.listen: {sending[0]} sends audio to {host}, and so could anybody: give a "
                "loopback or a private address here, or in media.public_host"
            )

    def sound(self) -> Self:
        """Raises ConfigurationError when calls would suffer."""
        if self.errors:
            raise ConfigurationError("\n".join(self.errors))
        return self


def trusted_for_nothing(settings: Settings, trunks: Collection[str]) -> Iterator[Problem]:
    """Endpoints and users that stand for a trunk which is none of these."""
    for index, pbx in enumerate(settings.pbx):
        for who, trunk_id in pbx.trusted.items():
            if trunk_id not in trunks:
                where = f"pbx[{index}].{pbx.trusted_key}.{who}"
                yield Problem(Severity.ERROR, where, f"there is no trunk {trunk_id!r}: its callers get in by none")


def _livekit_from_environment(file: ConfigurationFile, environment: Mapping[str, str]) -> None:
    """What LiveKit's own tools read from the environment counts here too, where the file leaves it out."""
    rooms = file.data.get("rooms")
    if isinstance(rooms, dict) and rooms.get("kind") == "livekit":
        for name, variable in LIVEKIT_VARIABLES.items():
            if name not in rooms and environment.get(variable):
                rooms[name] = environment[variable]


def _sentences(file: ConfigurationFile, details: list[ErrorDetails]) -> list[str]:
    places = [detail["loc"] for detail in details]
    # A list all of whose items are wrong is also too short: only the items' own errors help.
    helpful = [
        detail
        for detail in details
        if detail["type"] != "too_short"
        or not any(place != detail["loc"] and place[: len(detail["loc"])] == detail["loc"] for place in places)
    ]
    return [_sentence(file, detail) for detail in helpful]


def _sentence(file: ConfigurationFile, detail: ErrorDetails) -> str:
    place = tuple(part for part in detail["loc"] if not (isinstance(part, str) and part.startswith("function-")))
    known = _fields_at(Settings, place[:-1])
    if place[:1] == ("pbx",) and len(place) > 2 and place[2] in PBX_SECTIONS:
        # Which of them it is stands in no place of the file.
        known = _fields_at(PBX_SECTIONS[str(place[2])], place[3:-1])
        place = (*place[:2], *place[3:])
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(place[-1]), known, n=1)
        message = (
            f"there is no such key; did you mean {near[0]}?" if near else f"there is no such key; there are {', '.join(sorted(known))}"
        )
    elif detail["type"] == "missing":
        message = "is missing"
    elif detail["type"] == "string_type":
        message = "must be a text: write it in quotes"
    return f"{file.where(place)}: {dotted(place)}: {message}"


def _fields_at(model: Any, place: tuple[str | int, ...]) -> list[str]:
    """The keys that may stand at a place of the file."""
    for key in place:
        if isinstance(key, int):
            continue
        field = model.model_fields.get(key) if hasattr(model, "model_fields") else None
        if field is None:
            return []
        model = _model_in(field.annotation)
    return list(getattr(model, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
