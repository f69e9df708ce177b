"""Migrations: up and down on both databases, in step with the models, safe when many start at once."""

import multiprocessing
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import migrations
from migrations import downgrade, upgrade
from tamis.store.catalog import make_engine
from tamis.store.schema import Base


def differences(engine: sa.Engine, metadata: sa.MetaData) -> list[object]:
    with engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata))


def test_a_password_of_the_settings_opens_a_database_whose_address_has_none(postgres_database: str) -> None:
    address = sa.make_url(postgres_database)
    for given, setting in (("of the address", "other"), (None, "of the settings")):
        url = address.set(password=given).render_as_string(hide_password=False)
        engine = make_engine(url, setting)
        assert engine.url.password == (given or setting)
        with engine.connect() as connection:
            assert connection.scalar(sa.text("SELECT 1")) == 1


def test_up_and_down_and_up_again(database_url: str) -> None:
    engine = make_engine(database_url)
    upgrade(engine)
    assert set(Base.metadata.tables) <= set(sa.inspect(engine).get_table_names())
    downgrade(engine, "base")
    assert set(sa.inspect(engine).get_table_names()) <= {"alembic_version"}
    upgrade(engine)
    assert differences(engine, Base.metadata) == []
    engine.dispose()


def test_a_model_without_a_migration_is_noticed(database_url: str) -> None:
    engine = make_engine(database_url)
    upgrade(engine)
    changed = sa.MetaData(naming_convention=Base.metadata.naming_convention)
    for table in Base.metadata.tables.values():
        table.to_metadata(changed)
    changed.tables["datasets"].append_column(sa.Column("forgotten", sa.String()))
    assert [entry[0] for entry in differences(engine, changed)] == ["add_column"]  # type: ignore[index]
    engine.dispose()


def test_curves_outlive_the_change_of_their_trainings(database_url: str) -> None:
    engine = make_engine(database_url)
    upgrade(engine, "0034")
    insert = (
        "INSERT INTO datasets (id, name, state, stage, done, total, message, version, samples, quarantined, bytes, "
        "created_at) VALUES ('d', 'd', 'succeeded', '', 0, 0, '', 1, 0, 0, 0, '2026-01-01 00:00:00')",
        "INSERT INTO curations (id, dataset_id, parameters, state, stage, done, total, message, version, created_at) "
        "VALUES ('c', 'd', '{}', 'succeeded', '', 0, 0, '', 1, '2026-01-01 00:00:00')",
        "INSERT INTO manifests (id, curation_id, parameters, state, stage, done, total, message, version, created_at) "
        "VALUES ('m', 'c', '{}', 'succeeded', '', 0, 0, '', 1, '2026-01-01 00:00:00')",
        "INSERT INTO trainings (id, manifest_id, parameters, state, stage, done, total, message, version, created_at) "
        "VALUES ('t', 'm', '{}', 'succeeded', '', 0, 0, '', 1, '2026-01-01 00:00:00')",
        "INSERT INTO metrics (training_id, name, step, value) VALUES ('t', 'loss', 10, 0.5)",
    )
    with engine.begin() as connection:
        for statement in insert:
            connection.exec_driver_sql(statement)
    for move in (upgrade, downgrade):
        move(engine, "head" if move is upgrade else "0034")
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT training_id, step FROM metrics").all() == [("t", 10)]
    engine.dispose()


def _filled(engine: sa.Engine) -> dict[str, int]:
    """A row in each table, as far as they may stand together; returns how many each has."""
    found = sa.MetaData()
    found.reflect(engine)
    counts = {}
    with engine.begin() as connection:
        for table in found.sorted_tables:
            if table.name == "alembic_version":
                continue
            row = {
                column.name: _value(column) for column in table.columns if not column.nullable or column.foreign_keys
            }
            connection.execute(sa.insert(table).values(row))
            counts[table.name] = 1
    return counts


def _value(column: sa.Column[Any]) -> Any:
    if isinstance(column.type, sa.JSON):
        return {}
    kind = column.type.python_type
    if kind is str:
        return "succeeded" if column.name == "state" else "x"
    return datetime(2026, 1, 1) if kind is datetime else kind(1)


# But for the newest, the latest first.
REVISIONS = [script.revision for script in ScriptDirectory(migrations.__path__[0]).walk_revisions()][1:]


@pytest.mark.parametrize("revision", REVISIONS)
def test_rows_of_every_earlier_schema_are_there_in_the_newest(revision: str, database_url: str) -> None:
    engine = make_engine(database_url)
    upgrade(engine, revision)
    counts = _filled(engine)
    upgrade(engine)
    assert differences(engine, Base.metadata) == []
    with engine.connect() as connection:
        kept = {name: connection.scalar(sa.text(f"SELECT count(*) FROM {name}")) for name in counts}
    assert kept == counts
    engine.dispose()


def _open(url: str) -> None:
    engine = make_engine(url)
    upgrade(engine)
    engine.dispose()


def test_many_programs_may_start_on_an_empty_database(database_url: str) -> None:
    # Forked from a process that has loaded what they load: none is done before another begins.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["migrations", "tamis.store.catalog"])
    starters = [context.Process(target=_open, args=(database_url,)) for _ in range(4)]
    for process in starters:
        process.start()
    for process in starters:
        process.join(60)
    assert [process.exitcode for process in starters] == [0] * 4
    engine = make_engine(database_url)
    assert differences(engine, Base.metadata) == []
    engine.dispose()
