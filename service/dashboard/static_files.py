"""Style sheets and scripts, as they lie in the package."""

import hashlib
import mimetypes
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException
from fastapi.responses import Response

FOLDER = Path(__file__).parent / "static"


def static_files() -> APIRouter:
    """Files are asked for again at each use and named by their content: installed wheels carry one fixed time on all
    files, so that time and size cannot tell one release from the next."""
    router = APIRouter()
    files = {path.relative_to(FOLDER).as_posix(): path for path in FOLDER.rglob("*") if path.is_file()}

    @router.api_route("/static/{name:path}", methods=["GET", "HEAD"])
    def static_file(name: str, if_none_match: Annotated[str, Header()] = "") -> Response:
        if name not in files:
            raise HTTPException(404)
        content = files[name].read_bytes()
        headers = {"etag": f'"{hashlib.sha256(content).hexdigest()}"', "cache-control": "no-cache"}
        if headers["etag"] in if_none_match:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=mimetypes.guess_type(name)[0])

    return router
