"""A FreeSWITCH in roomline.yaml: its keys, their defaults, and what the operator is told of them."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, SecretStr

from bridge.pbx.freeswitch.options import FreeSwitchOptions
from bridge.sections import Part


class EventSocket(Part):
    """How to reach FreeSWITCH's event socket."""

    host: str = Field(default="127.0.0.1", description="where it listens (event_socket.conf.xml, listen-ip)")
    port: int = Field(default=8021, ge=1, le=65535, description="its port")
    secret: SecretStr = Field(description="its password: a text, {env: NAME} or {file: PATH}")


class FreeSwitch(Part):
    """One FreeSWITCH."""

    trusted_key: ClassVar = "trusted_users"
    sends_datagrams: ClassVar = True
    """Whether its audio comes from anybody who reaches the node's address."""

    kind: Literal["freeswitch"] = Field(description="what it is")
    name: str = Field(min_length=1, description="your name for it, in logs and records")
    esl: EventSocket = Field(description="its event socket")
    media_host: str = Field(default="127.0.0.1", min_length=1, description="its own address towards Roomline, from which it sends audio")
    outbound_gateways: dict[str, str] = Field(
        default_factory=dict, description="outbound trunk id → sofia gateway by which its calls go out: a carrier that you have chosen"
    )
    trusted_users: dict[str, str] = Field(
        default_factory=dict, description="user of its own directory → trunk id: carriers that the PBX itself knows and has authenticated"
    )

    @property
    def trusted(self) -> Mapping[str, str]:
        """What stands under `trusted_key`: names of the PBX's own → trunk id."""
        return self.trusted_users

    def options(self) -> FreeSwitchOptions:
        return FreeSwitchOptions(
            name=self.name,
            host=self.esl.host,
            port=self.esl.port,
            password=self.esl.secret.get_secret_value(),
            media_host=self.media_host,
            trusted_users=self.trusted_users,
            outbound_gateways=self.outbound_gateways,
        )
