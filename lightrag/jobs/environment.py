"""Settings as environment variables, so that another process has the very same ones: secrets too, which are in no file,
no command line and no record.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import pydantic
from pydantic import BaseModel

from lightrag.config import ENVIRONMENT_PREFIX, Settings
from lightrag.errors import UsageError


def process_environment(settings: Settings) -> dict[str, str]:
    """The environment of this process, with these settings in place of those it has."""
    others = {name: value for name, value in os.environ.items() if not name.upper().startswith(ENVIRONMENT_PREFIX)}
    return {**others, **settings_environment(settings)}


def settings_environment(settings: Settings, *, secrets: bool = True) -> dict[str, str]:
    """Every setting that is not the default, by the name of its variable.

    Args:
        settings: read back by :func:`lightrag.config.load_settings`.
        secrets: whether they are among them.
    """
    return {ENVIRONMENT_PREFIX + name.upper(): text for name, text in _variables(settings, secrets)}


def refuse_secrets(values: Mapping[str, Any]) -> None:
    """Refuse overrides of settings that are secret: they would be stored with the record.

    Raises:
        UsageError: one is among them.
    """
    for name in sorted(_secret_names(Settings)):
        here: Any = values
        for part in name.split("."):
            here = here.get(part) if isinstance(here, Mapping) else None
        if here:
            variable = ENVIRONMENT_PREFIX + name.upper().replace(".", "__")
            raise UsageError(f"a job's record holds no secrets: set {variable} where jobs run instead", subject=name)


def _variables(section: BaseModel, secrets: bool, prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _variables(value, secrets, f"{prefix}{name}__")
        elif isinstance(value, pydantic.SecretStr):
            if secrets and value.get_secret_value():
                yield prefix + name, value.get_secret_value()
        elif value != field.get_default(call_default_factory=True):
            plain = section.model_dump(mode="json", include={name})[name]
            yield prefix + name, plain if isinstance(plain, str) else json.dumps(plain)


def _secret_names(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _secret_names(kind, f"{prefix}{name}.")
        elif "SecretStr" in str(kind):
            yield prefix + name


__all__ = ["process_environment", "refuse_secrets", "settings_environment"]
