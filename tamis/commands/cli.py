"""The command `tamis`: its entry, and the one place where errors become messages and exit statuses."""

import io
import json
import os
import sys
from collections.abc import Sequence

from tamis.commands.threads import wait_asleep
from tamis.errors import InputError, TamisError
from tamis.printable import printable

DONE, FAILED, USAGE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0 done, 1 failed, 2 usage."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    as_json = "--json" in words
    wait_asleep()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name may hold a letter that the screen's encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    # Imported here, and not by the processes that check images, which import this module as they start.
    from tamis.commands.app import run

    try:
        result = run(words)
        if as_json and result is not None:
            print(json.dumps(result, default=str))
        sys.stdout.flush()
    except TamisError as error:
        return _failed(as_json, error.type, str(error), USAGE if isinstance(error, InputError) else FAILED)
    except BrokenPipeError:
        # Whoever read the output, as `head`, has enough; what is left of it goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        told = f"{place}{error.strerror or error}. Check the path, its rights and the disk."
        return _failed(as_json, "file-error", told, FAILED)
    except KeyboardInterrupt as stopped:
        return _failed(as_json, "interrupted", " ".join(["Interrupted.", *getattr(stopped, "__notes__", ())]), FAILED)
    return DONE


def _failed(as_json: bool, kind: str, message: str, status: int) -> int:
    print(printable(f"tamis: {message}", keep="\n"), file=sys.stderr)
    if as_json:
        print(json.dumps({"error": {"type": kind, "message": message}}))
    return status


if __name__ == "__main__":
    sys.exit(main())
