"""An Asterisk in roomline.yaml: its keys, their defaults, and what the operator is told of them."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, SecretStr, model_validator

from bridge.pbx.asterisk.options import AriOptions, AsteriskOptions
from bridge.sections import Part


class Ami(Part):
    """How to reach Asterisk's manager interface."""

    host: str = Field(default="127.0.0.1", description="where the manager listens (manager.conf, bindaddr)")
    port: int = Field(default=5038, ge=1, le=65535, description="its port")
    user: str = Field(default="roomline", description="the user in manager.conf")
    secret: SecretStr = Field(description="that user's secret: a text, {env: NAME} or {file: PATH}")


class AriAccess(Part):
    """How to reach Asterisk's REST interface, by which trunks with a user and a password come to be asked for."""

    url: str = Field(default="http://127.0.0.1:8088", pattern=r"^https?://[^/?#@]+/?$", description="where it listens (http.conf)")
    user: str = Field(default="roomline", description="the user in ari.conf")
    secret: SecretStr = Field(description="that user's secret: a text, {env: NAME} or {file: PATH}")
    endpoint: dict[str, str] = Field(
        default_factory=dict,
        description="attributes of the PJSIP endpoints made for trunks, over ours: context (`roomline`), allow (`ulaw,alaw,g722`), …",
    )

    @model_validator(mode="after")
    def _nobody_gets_around(self) -> Self:
        if wrong := {"auth", "aors", "type"} & self.endpoint.keys():
            raise ValueError(f"endpoint: {', '.join(sorted(wrong))} is what the trunk is made of, and stays as it is")
        return self

    def options(self) -> AriOptions:
        return AriOptions(self.url, self.user, self.secret.get_secret_value(), tuple(self.endpoint.items()))


class Asterisk(Part):
    """One Asterisk."""

    trusted_key: ClassVar = "trusted_endpoints"
    sends_datagrams: ClassVar = False
    """Whether its audio comes from anybody who reaches the node's address."""

    kind: Literal["asterisk"] = Field(default="asterisk", description="what it is")
    name: str = Field(min_length=1, description="your name for it, in logs and records")
    ami: Ami = Field(description="its manager interface")
    outbound_endpoints: dict[str, str] = Field(
        default_factory=dict, description="outbound trunk id → PJSIP endpoint by which its calls go out: a carrier that you have chosen"
    )
    ari: AriAccess | None = Field(default=None, description="its REST interface, for trunks with a user and a password")
    trusted_endpoints: dict[str, str] = Field(
        default_factory=dict, description="PJSIP endpoint → trunk id: carriers that the PBX itself knows and has authenticated"
    )

    @property
    def trusted(self) -> Mapping[str, str]:
        """What stands under `trusted_key`: names of the PBX's own → trunk id."""
        return self.trusted_endpoints

    def options(self) -> AsteriskOptions:
        return AsteriskOptions(
            name=self.name,
            host=self.ami.host,
            port=self.ami.port,
            user=self.ami.user,
            secret=self.ami.secret.get_secret_value(),
            trusted_endpoints=self.trusted_endpoints,
            outbound_endpoints=self.outbound_endpoints,
            ari=self.ari.options() if self.ari is not None else None,
        )
