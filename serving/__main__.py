"""Serve a bundle on this machine: ``python -m serving --bundle PATH``.

One worker of the same gunicorn configuration as in the image. Without ``--keys`` there is no authentication,
and the server listens on loopback alone.
"""

import argparse
import os
import sys
from pathlib import Path


def main() -> None:
    """Turn the arguments into settings and become gunicorn."""
    parser = argparse.ArgumentParser(prog="python -m serving", description="Serve a model bundle for development.")
    parser.add_argument("--bundle", type=Path, required=True, help="folder with contract.json and the models")
    parser.add_argument("--release", type=Path, help="release.json; default: beside the bundle")
    parser.add_argument("--bind", default="127.0.0.1:8080", help="address (default %(default)s)")
    parser.add_argument("--keys", type=Path, help="file of API key hashes; without it authentication is off")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    if not (arguments.bundle / "contract.json").is_file():
        parser.error(f"{arguments.bundle} is not a model bundle: it has no contract.json")
    settings = {
        "BUNDLE": arguments.bundle,
        "RELEASE": arguments.release or arguments.bundle.parent / "release.json",
        "BIND": arguments.bind,
        "WORKERS": arguments.workers,
        "AUTH": "keys" if arguments.keys else "off",
        "API_KEYS_FILE": arguments.keys or "",
    }
    environ = os.environ | {f"SCORING_{name}": str(value) for name, value in settings.items()}
    # macOS would end a forked worker that touches Apple's libraries.
    environ.setdefault("OBJC_DISABLE_INITIALIZE_FORK_SAFETY", "YES")
    gunicorn = ["-m", "gunicorn", "-c", "python:serving.gunicorn_config", "serving.wsgi:app"]
    os.execve(sys.executable, [sys.executable, *gunicorn], environ)  # noqa: S606 - so that signals arrive


if __name__ == "__main__":
    main()
