"""A PostgreSQL server of its own for tests: in a temporary folder, on loopback, with a password, gone afterwards."""

import glob
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HOW_TO = "PostgreSQL's server programs are not installed: apt-get install postgresql"


@dataclass(frozen=True)
class Postgres:
    """A running server with one database."""

    port: int
    password: str
    database: str = "airflow"

    @property
    def url(self) -> str:
        """For SQLAlchemy with psycopg2."""
        return f"postgresql+psycopg2://{self.database}:{self.password}@127.0.0.1:{self.port}/{self.database}"

    def value(self, query: str) -> str:
        """The one value that a query returns."""
        import psycopg2

        with psycopg2.connect(self.url.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            row = cursor.fetchone()
        connection.close()
        return str(row[0]) if row else ""


def programs() -> Path | None:
    """The folder of ``initdb`` and ``pg_ctl``; Debian keeps it off the path."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda path: int(path.split("/")[4]))
    on_path = shutil.which("initdb")
    chosen = found[-1] if found else on_path
    return Path(chosen).parent if chosen else None


@contextmanager
def server(port: int) -> Iterator[Postgres]:
    """Start one and stop it at the end. PostgreSQL refuses to run as root: then it runs as ``nobody``."""
    bin_folder = programs()
    assert bin_folder is not None, HOW_TO
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    # Not below pytest's own folder, which only its owner can enter.
    home = Path(tempfile.mkdtemp(prefix="lifecycle-postgres-"))
    made = Postgres(port, secrets.token_urlsafe(16))
    password_file = home / "password"
    password_file.write_text(made.password)
    for path in (home, password_file):
        os.chown(path, user.pw_uid, user.pw_gid)
    data = home / "data"

    def run(program: str, *arguments: str) -> None:
        command = [str(bin_folder / program), *arguments]
        # Output goes to a file: a pipe would stay open as long as the server lives.
        with (home / "output.log").open("ab") as output:
            done = subprocess.run(
                command, cwd=home, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False,
                **({"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}),
            )  # fmt: skip
        assert done.returncode == 0, f"{program}: {(home / 'output.log').read_text()[-2000:]}"

    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={home} -c fsync=off"
    try:
        run("initdb", "-D", str(data), "-U", made.database, "-A", "scram-sha-256", "-E", "UTF8",
            "--pwfile", str(password_file))  # fmt: skip
        run("pg_ctl", "-D", str(data), "-w", "-l", str(home / "server.log"), "-o", options, "start")
        _create(made)
        yield made
    finally:
        if (data / "postmaster.pid").exists():
            run("pg_ctl", "-D", str(data), "-w", "-m", "immediate", "stop")
        shutil.rmtree(home)


def _create(made: Postgres) -> None:
    import psycopg2

    connection = psycopg2.connect(made.url.replace("+psycopg2", "").rpartition("/")[0] + "/postgres")
    connection.autocommit = True  # CREATE DATABASE runs outside a transaction
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {made.database}")
    connection.close()
