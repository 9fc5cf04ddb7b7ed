"""Whether Asterisk will ask callers for the credentials of trunks: what an operator still has to do for it, asked of its REST interface."""

from collections.abc import Sequence
from typing import Final

from bridge.errors import Unavailable
from bridge.model.credentials import TrunkCredentials
from bridge.model.finding import Finding
from bridge.pbx.asterisk.ari import Ari, ConfigObject, Refused
from bridge.pbx.asterisk.credentials import PREFIX, cannot_keep, shared
from bridge.pbx.asterisk.options import AriOptions, AsteriskOptions

_NAME: Final = f"{PREFIX}check"

_PROBES: Final = (
    ConfigObject("auth", _NAME, (("auth_type", "md5"), ("username", "nobody"), ("md5_cred", "0" * 32))),
    ConfigObject("identify", _NAME, (("endpoint", _NAME), ("match_request_uri", "/^nobody$/"))),
)
"""Made and deleted again at once; no call meets them. Endpoints lie in the database where auths do."""

_ORDER: Final = "endpoint_identifier_order"
_SORCERY: Final = "add the lines of dialplan/asterisk/sorcery.conf, then restart Asterisk"


async def check_credentials(options: AsteriskOptions, trunks: Sequence[TrunkCredentials]) -> Sequence[Finding]:
    """Nothing where no trunk wants credentials that Asterisk does not ask for by itself (`trusted_endpoints`)."""
    trusted = set(options.trusted_endpoints.values())
    wanted = [trunk for trunk in trunks if trunk.trunk_id not in trusted]
    findings = [
        Finding(False, f"trunk {trunk.trunk_id}: {why}", "until then nobody gets in by it")
        for trunk in wanted
        if (why := cannot_keep(trunk))
    ]
    findings += [
        Finding(
            False,
            f"trunks {trunk_id} and {other} share a number: Asterisk asks for the credentials of one of them only",
            "give each numbers of its own, or name an endpoint of yours for one (trusted_endpoints)",
        )
        for trunk_id, other in shared(wanted).items()
    ]
    if options.ari is not None:
        return [*findings, *await _look(options.ari)]
    if wanted:
        todo = "set pbx[].ari (dialplan/asterisk/README.md), or name endpoints of your own for them (trusted_endpoints)"
        findings.append(Finding(False, f"nobody is asked for the credentials of {len(wanted)} trunks, so nobody gets in by them", todo))
    return findings


async def _look(options: AriOptions) -> list[Finding]:
    async with Ari(options) as ari:
        try:
            await ari.endpoints()
        except Refused as error:
            return [Finding(False, str(error), "compare pbx[].ari with ari.conf, and load res_ari_asterisk.so and res_ari_endpoints.so")]
        except Unavailable as error:
            return [Finding(False, str(error), "enable http.conf and ari.conf (dialplan/asterisk/README.md), on loopback")]
        try:
            for probe in _PROBES:
                await ari.put(probe)
                await ari.delete(probe)
            order = await ari.attribute("global", "global", _ORDER)
        except Unavailable as error:
            newer = "; an Asterisk older than 20.10, 21.5 or 22 has no match_request_uri" if "identify" in str(error) else ""
            return [Finding(False, str(error), f"{_SORCERY}{newer}")]
    looks_at = [each.strip() for each in order.split(",")]
    todo = f"in pjsip.conf: [global] type=global {_ORDER}=ip,request_uri,username,anonymous"
    if "request_uri" not in looks_at:
        return [Finding(False, "Asterisk does not look at the called number to tell whom to ask for credentials", todo)]
    if "anonymous" in looks_at[: looks_at.index("request_uri")]:
        return [Finding(False, "Asterisk takes callers for anonymous before it looks at the called number: nobody is asked", todo)]
    return [Finding(True, "ARI keeps the trunks' credentials in Asterisk")]
