"""One typed, frozen tree of settings for the library, the jobs and the service.

Values come, strongest first, from keyword overrides, ``LRAG_`` environment variables (``__`` for nesting, for example
``LRAG_GENERATOR__BACKEND=openai``), a YAML file, and the defaults beside the fields. Unknown names are errors. The
defaults need no GPU, no download and no account. Nothing here opens, loads or connects to anything.
"""

from __future__ import annotations

from lightrag.config.corpus import (
    ChunkingSettings,
    ConversationSettings,
    GistSettings,
    IngestSettings,
    RecallSettings,
    RetrievalSettings,
    StorageSettings,
)
from lightrag.config.description import Description
from lightrag.config.models import (
    CompressionMethod,
    CompressionSettings,
    EmbedderSettings,
    GeneratorSettings,
    MemorySettings,
)
from lightrag.config.section import Section
from lightrag.config.service import (
    AssistantSettings,
    DeadlineSettings,
    GeneratingReplicaSettings,
    HoldingReplicaSettings,
    JobSettings,
    ReplicaSettings,
    ServiceSettings,
    TraceSettings,
)
from lightrag.config.tenancy import OidcSettings, QuotaSettings, TenancySettings
from lightrag.config.tree import ENVIRONMENT_PREFIX, Settings, explain_settings, load_settings

__all__ = [
    "ENVIRONMENT_PREFIX",
    "AssistantSettings",
    "ChunkingSettings",
    "CompressionMethod",
    "CompressionSettings",
    "ConversationSettings",
    "DeadlineSettings",
    "Description",
    "EmbedderSettings",
    "GeneratingReplicaSettings",
    "GeneratorSettings",
    "GistSettings",
    "HoldingReplicaSettings",
    "IngestSettings",
    "JobSettings",
    "MemorySettings",
    "OidcSettings",
    "QuotaSettings",
    "RecallSettings",
    "ReplicaSettings",
    "RetrievalSettings",
    "Section",
    "ServiceSettings",
    "Settings",
    "StorageSettings",
    "TenancySettings",
    "TraceSettings",
    "explain_settings",
    "load_settings",
]
