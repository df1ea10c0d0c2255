"""MiniLake as the embedded Databricks workspace, with what it gets wrong put right.

MiniLake emulates the workspace, and most of it well. What a Databricks client needs and it lacks is
corrected here, from outside: functions of its modules are replaced (``execution``, ``runs``,
``workspace``) and requests are rewritten on their way in (``requests``). This leans on private names, so
exactly one version is accepted.
"""

VERSION = "1.9.0"
