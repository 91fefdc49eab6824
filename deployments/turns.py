"""Whose request a replica works on next: fair sharing where the work is done, and not only at the door."""

from __future__ import annotations

import math

from lightrag.config import ReplicaSettings, Settings
from lightrag.tenancy.admission import FairAdmission


def turns(settings: Settings, replicas: ReplicaSettings, *, computes: bool) -> FairAdmission:
    """Turns in one replica of a stage.

    What it computes itself it does for as many requests of a tenant as it has processors, and beside them for one of
    another tenant, which so never waits behind a burst. Without keys there is one tenant, and nothing to share.

    Args:
        settings: of the service.
        replicas: of the stage.
        computes: whether it computes itself, and does not mostly wait for a model elsewhere.
    """
    own = slots = replicas.max_requests
    if computes and settings.tenancy.authentication == "keys":
        own = math.ceil(replicas.cpus or settings.service.replica_cpus)
        slots = own + 1
    # Serve hands a replica no more than it may hold, and the deadline of a request ends its waiting.
    return FairAdmission(
        slots=slots,
        slots_per_tenant=own,
        queue_per_tenant=replicas.max_requests,
        queue_seconds=settings.deadlines.request,
    )


__all__ = ["turns"]
