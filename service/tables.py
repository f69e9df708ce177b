"""DuckDB over local copies of immutable Parquet objects: filter, sort and page without loading a table."""

import functools
import os
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from tamis.store.objects import Objects

SUMMARIES = 256


class Tables:
    """Queries over Parquet objects. An object never changes, so neither does its local copy."""

    def __init__(self, objects: Objects, cache: Path, memory_budget: int) -> None:
        self._objects, self._cache = objects, cache
        self._database = duckdb.connect(
            ":memory:", config={"memory_limit": f"{memory_budget // 2**20}MiB", "threads": os.cpu_count() or 1}
        )
        self._lock = threading.Lock()
        # Of what is asked again for the same object, and takes time where that is large.
        self.summary = functools.lru_cache(SUMMARIES)(self._summary)

    def close(self) -> None:
        self._database.close()
        # Whoever still holds this object, as FastAPI does its handlers, is not to hold the connection to the end.
        del self._database

    def local(self, key: str) -> Path:
        """The object `key` as a file; copied on first use where the store is not a folder."""
        path = self._objects.local_path(key)
        if path is not None:
            return path
        path = self._cache / key
        with self._lock:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                    for chunk in self._objects.stream(key):
                        file.write(chunk)
                Path(file.name).replace(path)
        return path

    def _summary(self, sql: str, key: str) -> dict[str, Any]:
        """The one row that a query over an object gives, remembered."""
        return self.query(sql, {"file": str(self.local(key))})[0]

    def query(self, sql: str, parameters: Sequence[Any] | dict[str, Any]) -> list[dict[str, Any]]:
        """Runs one SELECT and returns its rows by column name."""
        with self._database.cursor() as cursor:
            cursor.execute(sql, parameters)
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
