"""Templates, the words for numbers, and the frame that every page shares."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from tamis.report.words import figure, number, share
from tamis.version import __version__

THEMES = ("system", "light", "dark")
THEME_COOKIE = "tamis_theme"
HUES = 8

# Control characters, and those that turn the direction of text around: a name could hide its ending behind them.
_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")

_FINGERPRINT = re.compile("([0-9a-f]{12})[0-9a-f]{52}")


def page(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    theme = request.cookies.get(THEME_COOKIE, "system")
    frame = {
        "path": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        "theme": theme if theme in THEMES else "system",
        "themes": THEMES,
        "keys_needed": request.app.state.require_key,
        "version": __version__,
    }
    text = _environment.get_template(template).render(**frame, **context)
    # Pages show what changes, and may show what needs a key.
    return HTMLResponse(text, status, headers={"cache-control": "no-store"})


def error_page(request: Request, status: int, body: Mapping[str, object], headers: Mapping[str, str]) -> HTMLResponse:
    """A problem document for people: the same title and detail."""
    answer = page(request, "error.html", status, problem=body)
    answer.headers.update(headers)
    return answer


def plain(text: object) -> str:
    """`text` with what cannot be seen written out, as \\u202e."""
    return _INVISIBLE.sub(lambda match: f"\\u{ord(match.group()):04x}", str(text))


def part(value: int, total: int) -> str:
    """`value` and what it is of."""
    return f"{value:,} of {total:,}" + (f" ({share(value / total)})" if total else "")


def size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def when(moment: str) -> str:
    return f"{datetime.fromisoformat(moment):%Y-%m-%d %H:%M} UTC"


def moment(text: str) -> str:
    """To the second, for what follows quickly."""
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S}"


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def brief(text: str) -> str:
    """`text` with only the beginning of each fingerprint in it."""
    return _FINGERPRINT.sub(r"\1…", text)


def hue(cluster: int) -> str:
    return f"hue-{cluster % HUES}"


_environment = Environment(
    loader=PackageLoader("service.dashboard"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {
    "plain": plain,
    "number": number,
    "share": share,
    "figure": figure,
    "size": size,
    "when": when,
    "moment": moment,
    "duration": duration,
    "hue": hue,
    "brief": brief,
}
_environment.globals["part"] = part
