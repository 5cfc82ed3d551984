"""The documents of all APIs as one, so that what one API makes can be used in another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_PARTS = ("schemas", "responses", "headers")


def merge_documents(documents: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """One document of several: what is named in each gets its API's name in front."""
    merged: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "Kevel", "version": "1"},
        "paths": {},
        "components": {part: {} for part in _PARTS},
        "security": [{"token": []}],
    }
    for name, document in documents.items():
        text = json.dumps(document)
        for part in _PARTS:
            text = text.replace(f'"#/components/{part}/', f'"#/components/{part}/{name}.')
        text = text.replace('"operationId": "', f'"operationId": "{name}.')
        one = json.loads(text)
        merged["paths"] |= one["paths"]
        for part in _PARTS:
            shown = one["components"][part]
            merged["components"][part] |= {f"{name}.{key}": value for key, value in shown.items()}
        merged["components"]["securitySchemes"] = one["components"]["securitySchemes"]
    return merged
