"""DAG files of the image's own commit, and no others.

Plugins, training and use cases are baked into Airflow's image; DAG files come from git, so that Airflow knows the
version that each run began with. The two belong together: a DAG file of another commit may call what this image does
not have, or has changed. ``OneCommitBundle`` is Airflow's bundle of a git repository, and holds to that: in the place
of another commit's DAG files it shows one file that says so, as an import error; a task whose run began with another
commit fails with the same words. The image says its commit in ``LIFECYCLE_GIT_REVISION``.
"""

import os
import re
from pathlib import Path
from typing import Any

from airflow.providers.git.bundles.git import GitDagBundle

REVISION_VARIABLE = "LIFECYCLE_GIT_REVISION"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REFUSED = "refused"
"""Folder beside the clones, with the one file that Airflow reads instead."""
_FILE = '''"""Written by lifecycle.one_commit. Makes no DAG, and says in Airflow why there is none."""

from lifecycle.one_commit import OtherCommit

raise OtherCommit({message!r})
'''


class OtherCommit(RuntimeError):
    """Raised in the place of DAG files that do not belong to this image; the message says what to do."""


def fault(commit: str, image: str) -> str:
    """What is wrong where DAG files are of ``commit`` and the image says that it is of ``image``; empty: nothing."""
    if not _COMMIT.fullmatch(image):
        return (
            f"the image says {image!r} for its commit in {REVISION_VARIABLE}, and not 40 hexadecimal digits: "
            "build it with --build-arg REVISION=$(git rev-parse HEAD)"
        )
    if commit == image:
        return ""
    return (
        f"the DAG files are of commit {commit}, and the image of commit {image}: roll both out together (delivery/"
        "roll_out.sh). Of a run that began before a roll-out, clear the task with 'Run with latest bundle version'"
    )


class OneCommitBundle(GitDagBundle):
    """A git repository whose DAG files count where they are of the image's commit."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._message = ""

    def initialize(self) -> None:
        """Get the files; raises ``OtherCommit`` where a task asks for those of another commit."""
        if self.version and (message := fault(self.version, _of_image())):
            raise OtherCommit(message)
        super().initialize()
        self._look()

    def refresh(self) -> None:
        super().refresh()
        self._look()

    @property
    def path(self) -> Path:
        """The DAG files, or the folder of the one that says why they do not count."""
        return self.base_dir / _REFUSED if self._message else Path(super().path)

    def _look(self) -> None:
        if self.version:
            return
        current = self.get_current_version()
        self._message = fault(current if isinstance(current, str) else current.version, _of_image())
        if self._message:
            folder = self.base_dir / _REFUSED
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "other_commit.py").write_text(_FILE.format(message=self._message))


def _of_image() -> str:
    return os.environ.get(REVISION_VARIABLE, "")
