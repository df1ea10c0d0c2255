"""The Databricks workspace, through connection ``databricks_default``."""

import base64

from airflow.providers.databricks.exceptions import DatabricksApiError
from airflow.providers.databricks.hooks.databricks import DatabricksHook


class WorkspaceHook(DatabricksHook):
    """The provider's hook, with the three workspace calls that it lacks. All its ways to log in apply."""

    def exists(self, path: str) -> bool:
        try:
            self._do_api_call(("GET", "2.0/workspace/get-status"), {"path": path})
        except DatabricksApiError as error:
            if error.http_status_code == 404:
                return False
            raise
        return True

    def make_folder(self, path: str) -> None:
        self._do_api_call(("POST", "2.0/workspace/mkdirs"), {"path": path})

    def write_file(self, path: str, content: bytes) -> None:
        """Import a file as it is; AUTO makes a ``.py`` without a notebook header a file, not a notebook."""
        self._do_api_call(
            ("POST", "2.0/workspace/import"),
            {
                "path": path,
                "content": base64.b64encode(content).decode(),
                "format": "AUTO",
                "overwrite": True,
            },
        )
