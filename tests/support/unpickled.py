"""What would unpickle: in code by its syntax, in files by what they hold."""

import ast
import io
import zipfile
from pathlib import Path

import numpy as np

MODULES = {"_pickle", "cloudpickle", "dill", "jsonpickle", "joblib", "marshal", "pickle", "shelve", "skops", "torch"}
"""Whoever imports one of these reads or writes pickles, or what is as dangerous."""
NAMES = {"read_pickle", "to_pickle", "register_pickle_by_value"}
MODEL_FLAVOURS = {"sklearn", "pytorch", "xgboost", "lightgbm", "spark"}
"""Parts of MLflow that load a pickled model."""
_MAGIC = tuple(bytes([0x80, version]) for version in range(2, 6))


def in_code(text: str) -> list[str]:
    """What of a Python file would unpickle: lines and words, in order."""
    found = []
    for node in ast.walk(ast.parse(text)):
        line = getattr(node, "lineno", 0)
        found += [f"line {line}: {word}" for word in _imported(node) + _called(node)]
    return sorted(found)


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module else []
    else:
        return []
    return [name for name in names if MODULES & set(name.split("."))]


def _called(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Attribute) and (node.attr in NAMES or node.attr in MODULES):
        return [node.attr]
    if not isinstance(node, ast.Call):
        return []
    found = []
    for keyword in node.keywords:
        safe = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        if keyword.arg == "allow_pickle" and not safe:
            found.append("allow_pickle")
        if keyword.arg == "serialization_format":
            found.append("serialization_format")
    name = ast.unparse(node.func)
    if name.startswith("mlflow.") and set(name.split(".")) & MODEL_FLAVOURS:
        found.append(name)
    if name.endswith("import_module") and node.args and isinstance(node.args[0], ast.Constant):
        found += [str(node.args[0].value)] if str(node.args[0].value).split(".")[0] in MODULES else []
    return found


def in_files(folder: Path) -> list[str]:
    """Files of a folder that hold a pickle, with the path from there; looks into archives too."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found += [f"{path.relative_to(folder).as_posix()}{part}" for part in _pickled(path.read_bytes())]
    return found


def _pickled(content: bytes) -> list[str]:
    """An empty text where the content is a pickle, and the name of each part of an archive that is one."""
    if content.startswith(_MAGIC):
        return [""]
    if content.startswith(b"\x93NUMPY"):
        return [] if _plain(content) else [""]
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return [f"!{name}{part}" for name in archive.namelist() for part in _pickled(archive.read(name))]
    return []


def _plain(array: bytes) -> bool:
    try:
        np.load(io.BytesIO(array), allow_pickle=False)
    except ValueError:  # an array of objects, which NumPy pickles
        return False
    return True
