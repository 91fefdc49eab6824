"""Print the Serve configuration that ``serve deploy`` takes: ``python -m deployments.manifest --config settings.yaml``.

The settings travel inside, as the arguments of the application, so one file describes a whole service. Secrets do not:
they stay in the environment of the cluster's nodes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr

from lightrag.config import Section, load_settings
from lightrag.errors import ConfigurationError, LightRAGError

_IMPORT_PATH = "deployments.app:build"


def manifest(path: str | Path | None = None) -> dict[str, Any]:
    """Describe the service of a settings file as Serve's own configuration.

    Raises:
        ConfigurationError: the file is not valid, or holds a secret.
    """
    from ray.serve.schema import ServeDeploySchema

    from deployments.app import APPLICATION

    settings = load_settings(path)
    _refuse_secrets(settings, "")
    service = settings.service
    given = {} if path is None else yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    described = {
        "proxy_location": "EveryNode",
        "http_options": {"host": service.host, "port": service.port},
        "logging_config": {"encoding": "JSON"},
        "applications": [
            {"name": APPLICATION, "route_prefix": "/", "import_path": _IMPORT_PATH, "args": given},
        ],
    }
    ServeDeploySchema.model_validate(described)
    return described


def _refuse_secrets(section: Any, place: str) -> None:
    for name in type(section).model_fields:
        value = getattr(section, name)
        where = f"{place}{name}"
        if isinstance(value, SecretStr) and value.get_secret_value():
            variable = f"LRAG_{where.upper().replace('.', '__')}"
            raise ConfigurationError(
                f"{where} would stand in the manifest for all to read: set it as {variable} on the cluster's nodes",
                subject=where,
            )
        if isinstance(value, Section):
            _refuse_secrets(value, f"{where}.")


def main() -> int:
    """Print the manifest; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deployments.manifest", description=__doc__)
    parser.add_argument("--config", default=None, help="settings file (YAML)")
    arguments = parser.parse_args()
    try:
        described = manifest(arguments.config)
    except LightRAGError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(yaml.safe_dump(described, sort_keys=False, allow_unicode=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
