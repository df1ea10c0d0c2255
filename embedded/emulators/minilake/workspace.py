"""Paths and objects of the workspace as on Databricks."""

import base64
import binascii
from pathlib import Path
from typing import Any

from minilake.config import settings
from minilake.services import workspace

_PREFIX = "/Workspace"
_NOTEBOOK_HEADER = b"# Databricks notebook source"

_normalize = workspace._normalize
_resolve = workspace.resolve_workspace_path


def install() -> None:
    """Replace MiniLake's path handling."""
    workspace._normalize = normalize
    workspace.resolve_workspace_path = resolve


def normalize(path: str) -> str:
    """``/Workspace/Shared/x`` and ``/Shared/x`` are one object on Databricks."""
    plain: str = _normalize(path)
    if plain == _PREFIX or plain.startswith(f"{_PREFIX}/"):
        return plain.removeprefix(_PREFIX) or "/"
    return plain


def resolve(path: str) -> Path:
    """The file behind a workspace, volume (``/Volumes/...``) or ``dbfs:/`` path."""
    plain = path.removeprefix("dbfs:")
    if path.startswith("dbfs:") or plain.startswith("/Volumes/"):
        root: Path = (settings.data_dir / "dbfs").resolve()
        found = (root / plain.lstrip("/")).resolve()
        if root in found.parents:
            return found
    resolved: Path = _resolve(path)
    return resolved


def prepare_import(body: dict[str, Any]) -> dict[str, Any]:
    """Turn an import request into one that MiniLake knows; a RAW or non-notebook AUTO import is a file.

    MiniLake refuses RAW and knows languages for Python only. An AUTO import of a notebook loses its suffix.
    """
    wanted = str(body.get("format") or "SOURCE")
    is_notebook = wanted == "SOURCE" or (wanted == "AUTO" and _has_header(body))
    if wanted in ("AUTO", "RAW"):
        body = {key: value for key, value in body.items() if key != "language"} | {"format": "AUTO"}
    if wanted == "AUTO" and is_notebook:
        body["path"] = str(body.get("path", "")).removesuffix(".py")
    body["_file"] = not is_notebook
    return body


def mark_as_file(path: str) -> None:
    """Correct what MiniLake noted about an imported file: everything is a notebook to it."""
    entry = workspace._state["objects"].get(normalize(path))
    if entry is not None:
        entry["object_type"] = "FILE"
        entry.pop("language", None)


def _has_header(body: dict[str, Any]) -> bool:
    try:
        return base64.b64decode(body.get("content") or "").startswith(_NOTEBOOK_HEADER)
    except binascii.Error:
        return False  # MiniLake answers this one with its own message
