"""The whole tree of settings, and where its values come from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml
from pydantic import Field
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from lightrag.config.corpus import (
    ChunkingSettings,
    ConversationSettings,
    GistSettings,
    IngestSettings,
    RecallSettings,
    RetrievalSettings,
    StorageSettings,
)
from lightrag.config.models import CompressionSettings, EmbedderSettings, GeneratorSettings, MemorySettings
from lightrag.config.service import AssistantSettings, DeadlineSettings, JobSettings, ServiceSettings
from lightrag.config.tenancy import TenancySettings
from lightrag.errors import ConfigurationError

ENVIRONMENT_PREFIX = "LRAG_"


class Settings(BaseSettings):
    """All settings. Build with :func:`load_settings`, or directly with keywords."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    home: Path = Field(default_factory=lambda: Path.home() / ".lightrag")
    """Folder of the embedded service: objects, records, logs."""
    tenant: str = "default"
    """Tenant used where no API key says otherwise."""
    storage: StorageSettings = StorageSettings()
    embedder: EmbedderSettings = EmbedderSettings()
    generator: GeneratorSettings = GeneratorSettings()
    chunking: ChunkingSettings = ChunkingSettings()
    gists: GistSettings = GistSettings()
    memory: MemorySettings = MemorySettings()
    recall: RecallSettings = RecallSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    compression: CompressionSettings = CompressionSettings()
    deadlines: DeadlineSettings = DeadlineSettings()
    ingest: IngestSettings = IngestSettings()
    conversation: ConversationSettings = ConversationSettings()
    jobs: JobSettings = JobSettings()
    service: ServiceSettings = ServiceSettings()
    tenancy: TenancySettings = TenancySettings()
    assistants: dict[str, AssistantSettings] = Field(default_factory=dict)
    """By the model name that clients ask for; every corpus is one under its own name without being listed."""

    @property
    def storage_url(self) -> str:
        """The object store's URL with the embedded default filled in."""
        return self.storage.url or (self.home.expanduser().absolute() / "objects").as_uri()

    @property
    def records_url(self) -> str:
        """The database of tenants, keys, usage and audit with the embedded default filled in."""
        return self.tenancy.records_url.get_secret_value() or (
            f"sqlite:///{self.home.expanduser().absolute() / 'records.db'}"
        )


def load_settings(path: str | os.PathLike[str] | None = None, **overrides: Any) -> Settings:
    """Read settings from a YAML file, the environment and keyword overrides, reporting every problem at once.

    Args:
        path: YAML file; ``None`` reads the file named by ``LRAG_CONFIG``, or none.
        overrides: nested mappings or values, the strongest source.

    Raises:
        ConfigurationError: the file is missing or malformed, or any value is unknown or impossible.
    """
    return _build(_merge(_read_yaml(path), _read_environment(), overrides))


def explain_settings(
    path: str | os.PathLike[str] | None = None, **overrides: Any
) -> list[tuple[str, str, Literal["default", "file", "environment", "override"]]]:
    """List every effective setting as (dotted name, value, origin); secrets are masked."""
    sources = {"override": overrides, "environment": _read_environment(), "file": _read_yaml(path)}
    effective = dict(_flatten(load_settings(path, **overrides).model_dump(mode="json")))
    rows = []
    for name, value in effective.items():
        origin = next((label for label, source in sources.items() if name in dict(_flatten(source))), "default")
        rows.append((name, str(value), origin))
    return rows  # type: ignore[return-value]


def _build(values: Mapping[str, Any]) -> Settings:
    try:
        # The environment has been merged already, below the overrides and above the file.
        return _SettingsWithoutSources(**values)
    except pydantic.ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']} (got {item.get('input')!r})"
            if item["type"] != "extra_forbidden"
            else f"{'.'.join(str(part) for part in item['loc'])}: no such setting"
            for item in error.errors(include_url=False)
        )
        raise ConfigurationError(f"settings are not valid: {problems}") from error


class _SettingsWithoutSources(Settings):
    @classmethod
    def settings_customise_sources(  # type: ignore[override]  # the other sources are swallowed on purpose
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, **_: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def _read_environment() -> dict[str, Any]:
    known = {name: value for name, value in os.environ.items() if name != ENVIRONMENT_PREFIX + "CONFIG"}
    source = EnvSettingsSource(Settings)
    source.env_vars = {name.lower(): value for name, value in known.items()}
    return source()


def _read_yaml(path: str | os.PathLike[str] | None) -> dict[str, Any]:
    path = path or os.environ.get(ENVIRONMENT_PREFIX + "CONFIG")
    if not path:
        return {}
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"settings file {str(path)!r} cannot be read: {error}", subject=str(path)) from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"settings file {str(path)!r} is not YAML: {error}", subject=str(path)) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError(f"settings file {str(path)!r} must hold a mapping", subject=str(path))
    return content


def _merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            if isinstance(value, Mapping) and isinstance(result.get(name), Mapping):
                result[name] = _merge(result[name], value)
            else:
                result[name] = value
    return result


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


__all__ = ["ENVIRONMENT_PREFIX", "Settings", "explain_settings", "load_settings"]
