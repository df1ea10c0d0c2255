"""The use cases: one folder each. ``USE_CASES=folder[:folder]`` adds folders that lie outside the repository."""

import os

__path__ += [os.path.abspath(folder) for folder in os.environ.get("USE_CASES", "").split(os.pathsep) if folder]
