"""From the text of a key to a principal, without asking the database for every request."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from datetime import UTC, datetime

from lightrag.errors import AuthenticationError
from lightrag.tenancy.keys import Keys, Stored
from lightrag.tenancy.secrets import opens, read_key
from lightrag.tenancy.types import Principal

_REMEMBERED = 10_000
"""Keys. Unknown ids are remembered too, so that asking for them again costs nothing."""
_REFUSED = "the API key is not valid: send one as `Authorization: Bearer lrag_…` or in `X-API-Key`"


class Authenticator:
    """Checks keys. The secret is checked for every request; the row it is checked against is believed for a while.

    Args:
        keys: in the records.
        cache_seconds: for how long.
    """

    def __init__(self, keys: Keys, *, cache_seconds: float) -> None:
        self._keys = keys
        self._cache_seconds = cache_seconds
        self._known: OrderedDict[str, tuple[float, Stored | None]] = OrderedDict()
        self._looking: dict[str, asyncio.Task[Stored | None]] = {}
        self._used: dict[str, datetime] = {}

    async def principal(self, text: str) -> Principal:
        """Who holds this key.

        Raises:
            AuthenticationError: nobody: it is malformed, unknown, wrong, expired or revoked, or its tenant is locked
                out. The message does not say which.
            BackendError: the records cannot be reached, and the key is not remembered.
        """
        key = read_key(text)
        if key is None:
            raise AuthenticationError(_REFUSED)
        stored = await self._find(key.key_id)
        now = datetime.now(UTC)
        # The secret is checked first and always: how long a refusal takes says nothing either.
        if not opens(key.secret, stored.sealed if stored else None) or stored is None:
            raise AuthenticationError(_REFUSED)
        if not (stored.tenant_active and stored.key.valid(now)):
            raise AuthenticationError(_REFUSED)
        self._used[key.key_id] = now.replace(second=0, microsecond=0)
        return Principal(
            stored.key.tenant,
            stored.key.scopes,
            key_id=key.key_id,
            role=stored.key.role,
            tenant_class=stored.tenant_class,
        )

    def forget(self) -> None:
        """Believe nothing any more, after keys or tenants were changed in this process."""
        self._known.clear()
        self._looking.clear()

    def take_used(self) -> dict[str, datetime]:
        """When keys were used, since the last call."""
        used, self._used = self._used, {}
        return used

    async def _find(self, key_id: str) -> Stored | None:
        known = self._known.get(key_id)
        if known is not None and time.monotonic() - known[0] < self._cache_seconds:
            return known[1]
        # One look per key, however many requests wait for it; one that leaves does not end it for the others.
        look = self._looking.get(key_id)
        if look is None:
            look = self._looking[key_id] = asyncio.ensure_future(self._look(key_id))
        return await asyncio.shield(look)

    async def _look(self, key_id: str) -> Stored | None:
        task = asyncio.current_task()
        started = time.monotonic()
        try:
            stored = await asyncio.to_thread(self._keys.find, key_id)
            # What was read before a `forget` is not remembered after it.
            if self._looking.get(key_id) is task:
                self._known[key_id] = (started, stored)
                self._known.move_to_end(key_id)
                while len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
            return stored
        finally:
            if self._looking.get(key_id) is task:
                del self._looking[key_id]


__all__ = ["Authenticator"]
