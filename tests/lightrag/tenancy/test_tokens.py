"""Bearer tokens of a provider, whose keys come from a server on this machine."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lightrag.config import OidcSettings
from lightrag.errors import AuthenticationError, BackendError
from lightrag.storage.records import Records
from lightrag.tenancy.tenants import Tenants
from lightrag.tenancy.tokens import TokenVerifier
from tests.lightrag.tenancy.conftest import ACT

jwt = pytest.importorskip("jwt")
rsa = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa")


@pytest.fixture(scope="module")
def key() -> Any:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def provider(key: Any) -> Iterator[OidcSettings]:
    public = {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())), "kid": "k1", "alg": "RS256"}

    class Keys(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"keys": [public]}).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keys)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield OidcSettings(issuer="https://id", audience="lightrag", keys_url=f"http://127.0.0.1:{server.server_port}/keys")
    server.shutdown()
    server.server_close()


def token(key: Any, algorithm: str = "RS256", **claims: Any) -> str:
    content = {"iss": "https://id", "aud": "lightrag", "sub": "ada", "exp": int(time.time()) + 600, "tenant": "acme"}
    content = {name: value for name, value in {**content, **claims}.items() if value is not None}
    return str(jwt.encode(content, key, algorithm=algorithm, headers={"kid": "k1"}))


async def test_a_token_becomes_a_principal(records: Records, provider: OidcSettings, key: Any) -> None:
    verifier, tenants = TokenVerifier(provider), Tenants(records, {"standard"})
    principal = await verifier.principal(token(key, role="writer"), tenants)
    assert (principal.tenant, principal.role, principal.key_id) == ("acme", "writer", "oidc:ada")
    assert (await verifier.principal(token(key), tenants)).role == "reader"


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1},
        {"exp": None},
        {"aud": "another"},
        {"iss": "https://evil"},
        {"tenant": "nobody"},
        {"tenant": None},
        {"tenant": ["acme"]},
        {"role": "operator"},
        {"role": ["admin"]},
        {"sub": None},
        {"tenant": "globex"},
    ],
)
async def test_any_other_token_is_refused(
    records: Records, provider: OidcSettings, key: Any, claims: dict[str, Any]
) -> None:
    tenants = Tenants(records, {"standard"})
    tenants.change("globex", ACT, active=False)
    with pytest.raises(AuthenticationError):
        await TokenVerifier(provider).principal(token(key, **claims), tenants)


async def test_keys_of_others_and_shared_secrets_open_nothing(records: Records, provider: OidcSettings) -> None:
    verifier, tenants = TokenVerifier(provider), Tenants(records, {"standard"})
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    unsigned = jwt.encode({"tenant": "acme"}, "", algorithm="none")
    shared = token("s" * 32, "HS256")
    for text in (token(other), unsigned, shared, "a.b.c", "..", "ä.ö.ü"):
        with pytest.raises(AuthenticationError):
            await verifier.principal(text, tenants)


async def test_a_provider_that_is_away_is_no_refusal(records: Records, provider: OidcSettings, key: Any) -> None:
    away = provider.model_copy(update={"keys_url": "http://127.0.0.1:9/keys"})
    with pytest.raises(BackendError) as caught:
        await TokenVerifier(away).principal(token(key), Tenants(records, {"standard"}))
    assert caught.value.retryable
