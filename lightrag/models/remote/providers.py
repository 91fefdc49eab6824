"""What differs between services that speak the OpenAI interface, and how a client for one of them is made.

Each reads its own environment variable for its key and nothing of the others': a key for one service is never sent to
another, and neither are the organisation, project and extra headers that OpenAI's SDK would pick up by itself.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

from lightrag.errors import ConfigurationError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

DEFAULT_WINDOW: Final = 8192
"""Taken where neither the settings nor the table below know a remote model's window."""

_WINDOWS: Final = {
    "gpt-5": 400_000,
    "gpt-4.1": 1_047_576,
    "gpt-4o": 128_000,
    "gpt-4-turbo": 128_000,
    "gpt-3.5-turbo": 16_385,
    "o1": 200_000,
    "o3": 200_000,
    "o4-mini": 200_000,
    "deepseek-": 128_000,
}


@dataclass(frozen=True, slots=True)
class Provider:
    """One service."""

    name: str
    base_url: str
    """Where it is unless settings say otherwise; empty: settings must."""
    key_variable: str
    """Environment variable of its key; empty where it needs none."""
    url_variable: str = ""
    version_variable: str = ""
    window: int = DEFAULT_WINDOW
    cuts_silently: bool = False
    """Drops the head of a prompt that is too long, instead of refusing it; then we refuse by estimate."""


PROVIDERS: Final = {
    provider.name: provider
    for provider in (
        Provider("openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
        Provider(
            "azure",
            "",
            "AZURE_OPENAI_API_KEY",
            url_variable="AZURE_OPENAI_ENDPOINT",
            version_variable="OPENAI_API_VERSION",
        ),
        Provider("deepseek", "https://api.deepseek.com", "DEEPSEEK_API_KEY"),
        Provider("ollama", "http://127.0.0.1:11434/v1", "", window=4096, cuts_silently=True),
    )
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A service with its address and key, ready to be called."""

    provider: Provider
    base_url: str
    api_key: str
    api_version: str
    timeout_seconds: float

    def __repr__(self) -> str:
        return f"Endpoint({self.provider.name}, {self.shown_url})"

    @property
    def shown_url(self) -> str:
        """The address without user name and password, for messages."""
        parts = urlsplit(self.base_url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    @property
    def is_public(self) -> bool:
        """Whether this is OpenAI's or Azure's own service, not a compatible one."""
        return self.provider.name == "azure" or self.base_url == PROVIDERS["openai"].base_url

    def client(self) -> AsyncOpenAI:
        """Make a client of the official SDK. Retries are ours, so its own are off.

        TLS certificates are verified; ``SSL_CERT_FILE`` or ``SSL_CERT_DIR`` name a private authority.
        """
        from openai import AsyncAzureOpenAI, AsyncOpenAI

        common: dict[str, Any] = {
            "api_key": self.api_key or "none",
            "timeout": self.timeout_seconds,
            "max_retries": 0,
            "default_headers": _without_ambient_headers(self.provider),
        }
        # Azure's newer address speaks the plain interface and has no versions.
        if self.provider.name == "azure" and not self.base_url.rstrip("/").endswith("/openai/v1"):
            return AsyncAzureOpenAI(azure_endpoint=self.base_url, api_version=self.api_version, **common)
        return AsyncOpenAI(base_url=self.base_url, **common)


def endpoint(
    name: str, *, base_url: str = "", api_key: str = "", api_version: str = "", timeout_seconds: float = 60.0
) -> Endpoint:
    """Complete the settings of a service from its own environment variables and defaults.

    Raises:
        ConfigurationError: key, address or version are missing; everything missing is named.
    """
    provider = PROVIDERS[name]
    url = base_url or os.environ.get(provider.url_variable, "") or provider.base_url
    # A compatible server on another address gets a key only if it was given for it.
    ours = not base_url or base_url == provider.base_url or bool(provider.url_variable)
    key = api_key or (os.environ.get(provider.key_variable, "") if ours else "")
    version = api_version or os.environ.get(provider.version_variable, "")
    missing = []
    if not url:
        missing.append(f"base_url (or {provider.url_variable})")
    if not key and ours and provider.key_variable:
        missing.append(f"api_key (or {provider.key_variable})")
    if provider.version_variable and not version and not url.rstrip("/").endswith("/openai/v1"):
        missing.append(f"api_version (or {provider.version_variable})")
    if missing:
        raise ConfigurationError(f"provider {name!r} needs {', '.join(missing)}", subject=name)
    return Endpoint(provider, url, key, version, timeout_seconds)


def window_of(model: str, provider: Provider) -> int:
    """Window of a well-known remote model by its name, else the provider's usual one."""
    return next((window for head, window in _WINDOWS.items() if model.startswith(head)), provider.window)


def _without_ambient_headers(provider: Provider) -> dict[str, Any]:
    """Switch off what the SDK takes from OpenAI's environment variables, except for OpenAI itself."""
    from openai import Omit

    if provider.name == "openai":
        return {}
    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    names = [line.partition(":")[0].strip() for line in lines if ":" in line]
    return {name: Omit() for name in ("OpenAI-Organization", "OpenAI-Project", *names)}


__all__ = ["DEFAULT_WINDOW", "PROVIDERS", "Endpoint", "Provider", "endpoint", "window_of"]
