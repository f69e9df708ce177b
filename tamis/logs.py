"""What a service or a worker tells whoever runs it."""

import logging


def log_to_stderr() -> None:
    """The log of a long-running program: its own lines, and from libraries only warnings."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    for name in ("alembic", "dbos", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)
