"""The stack on this machine: Airflow, MLflow, a workspace and the scoring servers as processes."""

import sys
from pathlib import Path

# The stack shares modules with Airflow's plugins (keys, slots), and is started from the clone's root alone.
_PLUGINS = str(Path(__file__).resolve().parents[1] / "plugins")
if _PLUGINS not in sys.path:
    sys.path.append(_PLUGINS)
