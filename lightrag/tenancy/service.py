"""Everything a face needs to know whose request this is and whether it may pass, over one set of records.

Asynchronous; what touches the database runs in threads. Usage, audit lines and uses of keys are collected in memory and
written together a few times a minute, and once more on closing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lightrag.config import QuotaSettings, Settings
from lightrag.errors import BackendError, QuotaExceeded
from lightrag.storage.objects import ObjectStore, open_object_store
from lightrag.storage.records import Records, open_records
from lightrag.tenancy import tables
from lightrag.tenancy.admission import FairAdmission
from lightrag.tenancy.audit import Act, AuditEntry, AuditLog
from lightrag.tenancy.authentication import Authenticator
from lightrag.tenancy.holdings import StorageQuota, seconds_until_tomorrow
from lightrag.tenancy.keys import Keys
from lightrag.tenancy.rates import RateLimiter, SharedBuckets
from lightrag.tenancy.replays import Replays
from lightrag.tenancy.tenants import Tenants
from lightrag.tenancy.tokens import TokenVerifier
from lightrag.tenancy.types import ROLE_SCOPES, Principal
from lightrag.tenancy.usage import UsageKey, UsageMeter, UsageRecords, Used, today, used_by
from lightrag.types import Answer

_LOG = logging.getLogger(__name__)
_AUDIT_LINES = 10_000
"""That wait in memory while the database is away; more are given up, with a line in the process's log."""


class Tenancy:
    """Tenants of one service. Belongs to one event loop; its records are shared with other replicas.

    Args:
        settings: of the service.
        records: migrated already.
        store: where the corpora are.
    """

    def __init__(self, settings: Settings, records: Records, store: ObjectStore) -> None:
        tenancy = settings.tenancy
        self.settings = settings
        self.records = records
        self.store = store
        self.tenants = Tenants(records, tenancy.classes)
        self.keys = Keys(records)
        self.audit_log = AuditLog(records)
        self.usage_records = UsageRecords(records)
        self.replays = Replays(records)
        self.admission = FairAdmission(
            slots=tenancy.slots,
            slots_per_tenant=tenancy.slots_per_tenant if self.authenticated else tenancy.slots,
            slots_beside_others=_beside_others(settings),
            queue_per_tenant=tenancy.queue_per_tenant,
            queue_seconds=tenancy.queue_seconds,
        )
        self._authenticator = Authenticator(self.keys, cache_seconds=tenancy.cache_seconds)
        self._verifier = TokenVerifier(tenancy.oidc) if tenancy.oidc.issuer else None
        self._limiter = RateLimiter(SharedBuckets(records), lease_seconds=tenancy.lease_seconds)
        self._storage = StorageQuota(store)
        self._meter = UsageMeter()
        self._audit: list[AuditEntry] = []
        self._writing: dict[UsageKey, Used] = {}
        self._spent: dict[tuple[str, str], int] = {}
        self._flushing: asyncio.Task[None] | None = None
        self._flush_lock = asyncio.Lock()

    @classmethod
    def open(cls, settings: Settings, store: ObjectStore | None = None) -> Tenancy:
        """Open the records of the settings, and bring their tables up to date.

        Raises:
            BackendError: the database does not answer.
            ConfigurationError: its URL is wrong, or a later release made its tables.
        """
        records = open_records(settings.records_url)
        tables.migrate(records)
        store = store or open_object_store(settings.storage_url, settings.storage.options)
        tenancy = cls(settings, records, store)
        tenancy.tenants.ensure(settings.tenant, settings.tenancy.default_class, Act("command"))
        return tenancy

    @property
    def authenticated(self) -> bool:
        """Whether requests need a key."""
        return self.settings.tenancy.authentication == "keys"

    # --- Whose request --------------------------------------------------------------------------------------------

    async def principal(self, credentials: str) -> Principal:
        """Who sends these credentials: an API key, or a provider's token.

        Raises:
            AuthenticationError: nobody.
            BackendError: that cannot be known now; retryable.
        """
        if not self.authenticated:
            default = self.settings.tenancy.default_class
            return Principal(self.settings.tenant, ROLE_SCOPES["writer"], role="writer", tenant_class=default)
        if self._verifier is not None and credentials.count(".") == 2:
            return await self._verifier.principal(credentials, self.tenants)
        return await self._authenticator.principal(credentials)

    def changed(self) -> None:
        """Keys or tenants were changed in this process: look again before the next request."""
        self._authenticator.forget()

    def quota(self, principal: Principal) -> QuotaSettings:
        """What the principal's tenant may use."""
        classes = self.settings.tenancy.classes
        quota = classes.get(principal.tenant_class)
        if quota is None:
            # A class that the settings no longer name limits as the default one does, not at all less.
            quota = classes[self.settings.tenancy.default_class]
        return quota

    # --- Whether it may pass --------------------------------------------------------------------------------------

    async def admit(self, principal: Principal) -> None:
        """Count a request against the tenant's rate and its tokens of the day.

        Raises:
            QuotaExceeded: one of them is used up.
        """
        quota = self.quota(principal)
        await self._limiter.admit(principal.tenant, quota.requests_per_minute)
        if quota.tokens_per_day is not None and await self._tokens(principal.tenant) >= quota.tokens_per_day:
            raise QuotaExceeded(
                f"the tenant has used its {quota.tokens_per_day} tokens of today",
                subject="tokens_per_day",
                retry_after=seconds_until_tomorrow(),
            )

    async def admit_write(self, principal: Principal, size: int) -> None:
        """Check that the tenant may store more.

        Raises:
            QuotaExceeded: it may not.
        """
        await asyncio.to_thread(self._storage.check, principal.tenant, self.quota(principal), size)

    @asynccontextmanager
    async def slot(self, principal: Principal) -> AsyncIterator[None]:
        """Hold one of this replica's slots; raises as :meth:`FairAdmission.slot`."""
        async with self.admission.slot(principal.tenant):
            yield

    # --- What it used ---------------------------------------------------------------------------------------------

    def note_answer(self, answer: Answer) -> None:
        """Count an answer."""
        corpus = answer.corpus
        self._meter.add(corpus.tenant, used_by(answer.usage), corpus=corpus.corpus, model=answer.model or "")

    def note(self, tenant: str, used: Used, *, corpus: str = "", model: str = "") -> None:
        """Count something else."""
        self._meter.add(tenant, used, corpus=corpus, model=model)

    def note_act(self, entry: AuditEntry) -> None:
        """Keep a line for the audit log."""
        if len(self._audit) < _AUDIT_LINES:
            self._audit.append(entry)
        else:
            _LOG.error("an audit line is lost, the database is away: %s by %s", entry.action, entry.actor)

    async def flush(self) -> None:
        """Write everything that was collected.

        Raises:
            BackendError: the database failed; everything is kept for the next time.
        """
        # Whoever gives up waiting does not stop the thread that writes; what it writes must not be kept as well.
        await asyncio.shield(self._flush())

    async def _flush(self) -> None:
        async with self._flush_lock:
            await self._flush_usage()
            lines, self._audit = self._audit, []
            try:
                await asyncio.to_thread(self.audit_log.append, lines)
            except BaseException:
                self._audit = [*lines, *self._audit]
                raise
            if used := self._authenticator.take_used():
                # Losing one of these is no loss: the next use notes a later time.
                await asyncio.to_thread(self.keys.used, used)

    def keep_flushing(self) -> None:
        """Start writing regularly, unless that runs already. Needs a running loop."""
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush_regularly())

    async def close(self) -> None:
        """Write what is left, give leases back and close the records. A second call does nothing."""
        if self._flushing is not None:
            self._flushing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._flushing
            self._flushing = None
        try:
            await self.flush()
            await self._limiter.close()
        finally:
            self.records.close()

    async def _flush_regularly(self) -> None:
        while True:
            await asyncio.sleep(self.settings.tenancy.lease_seconds)
            try:
                await self.flush()
            except BackendError as error:
                _LOG.warning("usage and audit lines could not be written and are kept: %s", error)

    async def _flush_usage(self) -> None:
        counted = self._writing = self._meter.take()
        try:
            await asyncio.to_thread(self.usage_records.add, counted)
        except BaseException:
            self._meter.put_back(counted)
            raise
        finally:
            self._writing = {}
        # What other replicas wrote counts too; days that are over no longer do.
        for used in counted:
            if (key := (used.tenant, used.day)) in self._spent:
                self._spent[key] += counted[used].tokens
        day = today()
        tenants = [tenant for tenant, of in self._spent if of == day]
        if tenants or self._spent:
            found = await asyncio.to_thread(self.usage_records.tokens, tenants, day)
            self._spent = {(tenant, day): tokens for tenant, tokens in found.items()}

    async def _tokens(self, tenant: str) -> int:
        day = today()
        if (tenant, day) not in self._spent:
            found = await asyncio.to_thread(self.usage_records.tokens, [tenant], day)
            self._spent.setdefault((tenant, day), found[tenant])
        waiting = self._meter.tokens(tenant, day)
        writing = sum(used.tokens for key, used in self._writing.items() if (key.tenant, key.day) == (tenant, day))
        return self._spent[tenant, day] + waiting + writing


def _beside_others(settings: Settings) -> int:
    tenancy = settings.tenancy
    if tenancy.slots_beside_others is not None:
        return tenancy.slots_beside_others
    if settings.generator.backend in ("extractive", "transformers"):
        return max(1, (os.cpu_count() or 1) // 2)
    return tenancy.slots_per_tenant


__all__ = ["Tenancy"]
