"""What a job is asked to do, as a value that travels as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self

import pydantic

from lightrag.config.section import Section
from lightrag.errors import UsageError


class Description(Section):
    """Base of the descriptions of jobs: frozen, without secrets, and unknown names are refused."""

    @classmethod
    def parse(cls, values: Mapping[str, Any] | str) -> Self:
        """Read a description from its mapping or its JSON text.

        Raises:
            UsageError: not JSON, an unknown or missing name, or an impossible value; all problems are reported at once.
        """
        try:
            return cls.model_validate(json.loads(values) if isinstance(values, str) else values)
        except json.JSONDecodeError as error:
            raise UsageError(f"the job's spec is not JSON: {error}") from error
        except pydantic.ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, item['loc'])) or 'spec'}: {item['msg']}"
                + (f" (got {item['input']!r})" if item["type"] != "missing" else "")
                for item in error.errors(include_url=False)
            )
            raise UsageError(f"the job's spec is not valid: {problems}") from error


__all__ = ["Description"]
