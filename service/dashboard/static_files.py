"""Style sheets and scripts, as they lie in the package."""

import hashlib
from os import PathLike, stat_result
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parent / "static"


def static_files() -> StaticFiles:
    return _Static(directory=FOLDER)


class _Static(StaticFiles):
    """Files are asked for again at each use and named by their content.

    Installed wheels carry one fixed time on all files, so that time and size cannot tell one release from the next.
    """

    def file_response(
        self, full_path: PathLike[str] | str, stat_result: stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        response = FileResponse(full_path, status_code=status_code, stat_result=stat_result)
        response.headers["etag"] = f'"{hashlib.sha256(Path(full_path).read_bytes()).hexdigest()}"'
        response.headers["cache-control"] = "no-cache"
        del response.headers["last-modified"]
        if self.is_not_modified(response.headers, Headers(scope=scope)):
            return NotModifiedResponse(response.headers)
        return response
