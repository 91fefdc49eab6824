"""Bearer tokens of an OpenID Connect provider: signature, issuer, audience and time, then claims as a principal."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from lightrag.config import OidcSettings
from lightrag.errors import AuthenticationError, BackendError, ConfigurationError, LightRAGError
from lightrag.tenancy.tenants import Tenants
from lightrag.tenancy.types import ROLE_SCOPES, Principal, Role

_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")
"""Asymmetric ones only: with a shared secret, everybody who can check a token can make one."""
_REFUSED = "the bearer token is not valid"


class TokenVerifier:
    """Checks tokens with the provider's published keys, which are fetched once and again when a new one appears.

    Args:
        settings: of the provider.

    Raises:
        ConfigurationError: PyJWT is not installed.
    """

    def __init__(self, settings: OidcSettings) -> None:
        try:
            from jwt import PyJWKClient
        except ImportError as error:
            raise ConfigurationError("tenancy.oidc needs PyJWT: pip install lightrag-ray[oidc]") from error
        self._settings = settings
        self._keys = PyJWKClient(settings.keys_url, cache_keys=True, timeout=5)

    async def principal(self, token: str, tenants: Tenants) -> Principal:
        """Who holds this token.

        Raises:
            AuthenticationError: nobody whom the provider vouches for, or no tenant of this service.
            BackendError: the provider's keys cannot be fetched now.
        """
        claims = await asyncio.to_thread(self._claims, token)
        name, role = claims.get(self._settings.tenant_claim), claims.get(self._settings.role_claim, "reader")
        # Nobody but somebody with access to the database makes operators.
        if not isinstance(name, str) or role not in ("reader", "writer", "admin"):
            raise AuthenticationError(_REFUSED)
        try:
            tenant = await asyncio.to_thread(tenants.get, name)
        except BackendError:
            raise
        except LightRAGError as error:
            raise AuthenticationError(_REFUSED) from error
        if not tenant.active:
            raise AuthenticationError(_REFUSED)
        role = cast("Role", role)
        actor = f"oidc:{claims['sub']}"
        return Principal(name, ROLE_SCOPES[role], key_id=actor, role=role, tenant_class=tenant.tenant_class)

    def _claims(self, token: str) -> dict[str, Any]:
        import jwt

        try:
            key = self._keys.get_signing_key_from_jwt(token)
            return jwt.decode(
                token,
                key.key,
                algorithms=list(_ALGORITHMS),
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                options={"require": ["exp", "sub", "iss", "aud"]},
                leeway=10,
            )
        except jwt.PyJWKClientConnectionError as error:
            raise BackendError("the provider's keys cannot be fetched", retryable=True) from error
        except jwt.PyJWTError as error:
            raise AuthenticationError(_REFUSED) from error


__all__ = ["TokenVerifier"]
