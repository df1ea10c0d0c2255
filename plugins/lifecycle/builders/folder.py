"""Build without an engine: a folder with the content of the image, from which gunicorn runs.

Connection type ``fs``; its extra ``path`` is the folder of images.
"""

import itertools
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from lifecycle.builders import BuildError, Memory, build_failed
from lifecycle.builders.context import Inputs
from lifecycle.image_reference import ImageReference
from serving.scoring.described import described
from training.registry.content import content_digest

_KEY_FILE = ".inputs"
"""Beside the images: ``<tag>.inputs`` holds the key of a finished one, its digest and the name of its folder."""
_CHECK_SECONDS = 120


@described
class _Record(msgspec.Struct, frozen=True):
    key: str
    digest: str
    folder: str = ""
    """Empty where it is the tag."""


class BundleBuilder:
    """Lays out ``<images>/<tag>/``, checks it as the Dockerfile does, and moves it into place in one step.

    No folder is ever removed or changed, for a server may run from it: where the tag's name is taken, the image gets a
    folder beside it, ``<tag>-2`` and so on.
    """

    def __init__(self, connection: Any) -> None:
        path = connection.extra_dejson.get("path")
        if not path:
            raise BuildError(f"connection {connection.conn_id!r} of type fs needs extra.path: the folder of images")
        self._images = Path(path)
        self._check: subprocess.Popen[str] | None = None

    def find(self, inputs: Inputs) -> ImageReference | None:
        try:
            record = msgspec.json.decode(self._record(inputs).read_bytes(), type=_Record)
        except FileNotFoundError:
            return None
        folder = self._images / (record.folder or inputs.tag)
        if record.key != inputs.key:
            raise BuildError(
                f"the image {folder} was made from other inputs ({record.key}, and these are {inputs.key}): "
                f"delete the folder and {self._record(inputs).name}, then run the task again"
            )
        if not folder.is_dir():
            return None
        if (found := content_digest(folder)) != record.digest:
            raise BuildError(
                f"the image {folder} was changed after it was built: its digest is {found}, "
                f"it was built as {record.digest}. Delete the folder, then run the task again"
            )
        return ImageReference(str(folder.absolute()), record.digest)

    def build(self, inputs: Inputs, context: Path, memory: Memory) -> ImageReference:
        self._images.mkdir(parents=True, exist_ok=True)
        # Next to its place, so that the move is a rename: a killed build leaves no half image under a tag.
        with tempfile.TemporaryDirectory(dir=self._images, prefix=f".{inputs.tag}-") as scratch:
            staged = Path(scratch) / "image"
            shutil.copytree(context, staged)
            self._verify(staged)
            digest = content_digest(staged)
            folder = self._free_folder(inputs)
            staged.rename(folder)
        part = self._record(inputs).with_suffix(".part")
        part.write_bytes(msgspec.json.encode(_Record(inputs.key, digest, folder.name)))
        part.replace(self._record(inputs))
        return ImageReference(str(folder.absolute()), digest)

    def base(self, inputs: Inputs) -> str:
        return f"Python {platform.python_version()} of this machine"

    def cancel(self) -> None:
        if self._check is not None:
            self._check.terminate()

    def _free_folder(self, inputs: Inputs) -> Path:
        names = (f"{inputs.tag}-{number}" for number in itertools.count(2))
        places = (self._images / name for name in itertools.chain([inputs.tag], names))
        return next(place for place in places if not place.exists())

    def _record(self, inputs: Inputs) -> Path:
        return self._images / f"{inputs.tag}{_KEY_FILE}"

    def _verify(self, staged: Path) -> None:
        """Load the bundle with the image's own code and compare its golden answers."""
        self._check = subprocess.Popen(
            [sys.executable, "-B", "-m", "serving.verify", "bundle", "bundle"],
            cwd=staged,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(staged)},
        )
        try:
            output, _ = self._check.communicate(timeout=_CHECK_SECONDS)
        except subprocess.TimeoutExpired:
            self._check.kill()
            self._check.communicate()
            raise BuildError(f"the bundle did not load within {_CHECK_SECONDS} s") from None
        if self._check.returncode:
            raise build_failed("the image does not answer as its model was registered", output)
