"""What tenants use, by day, corpus and model: counted in memory, written in batches.

A request adds to a counter; a flush adds all counters to the records in one transaction. A flush that fails keeps them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from lightrag.storage.records import Records
from lightrag.tenancy.tables import UsageRow
from lightrag.types import Usage


class UsageKey(NamedTuple):
    """What usage is added up by."""

    tenant: str
    day: str
    """ISO 8601, in UTC."""
    corpus: str
    """Empty for requests that belong to none."""
    model: str
    """Empty where no language model was called."""


@dataclass(frozen=True, slots=True)
class Used:
    """How much."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: Used) -> Used:
        return Used(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )

    @property
    def tokens(self) -> int:
        """Read and written."""
        return self.prompt_tokens + self.completion_tokens


class UsageLine(NamedTuple):
    """One row of a report."""

    day: str
    corpus: str
    model: str
    used: Used


class UsageMeter:
    """Counts in memory. Belongs to one thread; :meth:`take` hands over what was counted."""

    def __init__(self) -> None:
        self._counted: defaultdict[UsageKey, Used] = defaultdict(Used)

    def add(self, tenant: str, used: Used, *, corpus: str = "", model: str = "", day: str | None = None) -> None:
        """Count something."""
        # The column is bounded; names of models are the operator's.
        self._counted[UsageKey(tenant, day or today(), corpus, model[:200])] += used

    def tokens(self, tenant: str, day: str) -> int:
        """Tokens of a day that were counted and not yet taken."""
        return sum(used.tokens for key, used in self._counted.items() if (key.tenant, key.day) == (tenant, day))

    def take(self) -> dict[UsageKey, Used]:
        """What was counted since the last call."""
        counted, self._counted = dict(self._counted), defaultdict(Used)
        return counted

    def put_back(self, counted: Mapping[UsageKey, Used]) -> None:
        """Undo a :meth:`take` that could not be written."""
        for key, used in counted.items():
            self._counted[key] += used


class UsageRecords:
    """What was counted, in the records."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def add(self, counted: Mapping[UsageKey, Used]) -> None:
        """Add everything in one transaction."""
        if not counted:
            return
        with self._records.session() as session:
            # In order, so that two replicas that add at once wait for each other instead of blocking each other.
            for key, used in sorted(counted.items()):
                _add(session, key, used)

    def report(self, tenant: str, first: date, last: date) -> Sequence[UsageLine]:
        """Every line of a tenant in a range of days."""
        query = (
            sa.select(UsageRow)
            .where(UsageRow.tenant == tenant, UsageRow.day.between(first.isoformat(), last.isoformat()))
            .order_by(UsageRow.day, UsageRow.corpus, UsageRow.model)
        )
        with self._records.session(read_only=True) as session:
            return [UsageLine(row.day, row.corpus, row.model, _used(row)) for row in session.scalars(query)]

    def tokens(self, tenants: Sequence[str], day: str) -> dict[str, int]:
        """Tokens of a day for each of these tenants."""
        total = sa.func.sum(UsageRow.prompt_tokens + UsageRow.completion_tokens)
        query = (
            sa.select(UsageRow.tenant, total)
            .where(UsageRow.tenant.in_(tenants), UsageRow.day == day)
            .group_by(UsageRow.tenant)
        )
        with self._records.session(read_only=True) as session:
            found = {tenant: int(tokens) for tenant, tokens in session.execute(query)}
        return {tenant: found.get(tenant, 0) for tenant in tenants}


def today() -> str:
    """The day in UTC."""
    return datetime.now(UTC).date().isoformat()


def _add(session: Session, key: UsageKey, used: Used) -> None:
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    values = {
        "requests": used.requests,
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "cached_tokens": used.cached_tokens,
    }
    statement = dialect.insert(UsageRow).values(**key._asdict(), **values)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=list(UsageKey._fields),
            set_={name: getattr(UsageRow, name) + statement.excluded[name] for name in values},
        )
    )


def _used(row: UsageRow) -> Used:
    return Used(row.requests, row.prompt_tokens, row.completion_tokens, row.cached_tokens)


def used_by(usage: Usage) -> Used:
    """One request that cost this."""
    return Used(1, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)


__all__ = ["UsageKey", "UsageLine", "UsageMeter", "UsageRecords", "Used", "today", "used_by"]
