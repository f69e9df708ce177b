"""The tree of commands: which there are, what each does, and in which group of `tamis --help` it stands.

A command's module is imported when that command is asked for, and what is heavy inside its functions.
"""

import platform
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Group, Parameter, UnknownCommandError, UnusedCliTokensError

from tamis.commands.groups import RUNNING
from tamis.errors import InputError
from tamis.version import __version__

HELP = {"--help", "-h"}
RUNS_ON = ("torch", "torchvision", "numpy", "pyarrow", "faiss-cpu", "faiss-gpu")
ELSE = Group("Else", sort_key=4)
COMMANDS = {
    Group("Without a server", sort_key=1): {
        "curate:curate": "Curates a data set without a server and writes a manifest.",
        "train:train": "Trains SimCLR on a manifest and reports a probe where labels exist.",
        "train:probe": "Reports a probe of a checkpoint on labelled images.",
        "report:report": "Writes what a manifest says as one HTML file with pictures.",
        "export:export": "Writes the kept samples of a manifest in the form of another tool.",
        "experiment:experiment": "Trains arms and controls with several seeds, and says what helps and why.",
        "demo:demo": "Runs the whole job on real images: upload, curate, manifest, train.",
    },
    Group("With a server", sort_key=2): {
        "remote:upload": "Sends a folder or archive to a server, or goes on where that was cut off.",
        "remote:manifest": "Makes a manifest of a curation and downloads it.",
        "catalog:datasets": "Lists a server's data sets; shows or deletes one.",
        "catalog:curations": "Lists a server's curations; shows, makes or cancels one.",
        "catalog:manifests": "Lists a server's manifests; `tamis manifest ID` downloads one.",
        "catalog:encoders": "Lists the encoders that were sent to a server; sends one.",
        "catalog:trainings": "Lists a server's trainings; shows, makes or cancels one.",
        "catalog:jobs": "Lists what a server works on, and what ended lately.",
    },
    Group("A server of your own", sort_key=3): {
        "server:serve": "Serves API and dashboard, with one worker beside it.",
        "server:worker": "Takes jobs from the queues, on this machine or another.",
        "doctor:doctor": "Tries each part of the server whose data are here, and tells which does not work.",
        "server:backup": "Copies catalogue and objects of the server whose data are here, while it runs.",
        "server:restore": "Makes a data folder of a backup.",
        "server:gc": "Removes stored objects that nothing needs any more, of the server whose data are here.",
        "server:keys": "Creates, lists and revokes API keys of the server whose data are here.",
    },
    ELSE: {
        "bench:bench": "Measures a hot path against its peers and the machine's limit.",
        "completion:install_completion": "Has the shell complete commands and options of `tamis`.",
    },
}


def told_version() -> str:
    """Of Tamis, and of what it runs on, a line each, which a report of a fault needs; nothing of that is loaded."""
    there = (f"{name} {found}" for name in RUNS_ON if (found := _installed(name)) is not None)
    return "\n".join([f"tamis {__version__}", f"Python {platform.python_version()}", *there, platform.platform()])


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


app = App(
    name="tamis",
    help="Finds the difficult examples of an image data set.",
    help_format="plaintext",
    version=told_version,
    version_flags=["--version"],
    exit_on_error=False,
    print_error=False,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
app.meta.suppress_keyboard_interrupt = False
for _group, _places in COMMANDS.items():
    for _order, (_place, _does) in enumerate(_places.items()):
        _name = _place.partition(":")[2]
        app.command(
            f"tamis.commands.{_place}",
            name="--install-completion" if _name == "install_completion" else _name,
            help=_does,
            group=_group,
            sort_key=_order,
        )
for _flag in ("--help", "--version"):
    app[_flag].group = (ELSE,)


@app.meta.default
def _launch(
    *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    json: Annotated[
        bool,
        Parameter(help="End with one JSON object on the last line.", negative="", show_default=False, group=RUNNING),
    ] = False,
) -> dict[str, Any] | None:
    command, bound, _ = app.parse_args(words)
    if getattr(command, "__func__", None) is App.help_print and not HELP & set(words):
        app.help_print(words)
        raise InputError("A command is missing.", "Choose one of those above.")
    result: dict[str, Any] | None = command(*bound.args, **bound.kwargs)
    return result


def run(words: Sequence[str]) -> dict[str, Any] | None:
    """Runs the command that the words are; returns what `--json` shows. Raises InputError for words that are none."""
    try:
        result: dict[str, Any] | None = app.meta(words)
    except CycloptsError as error:
        chain = [word for word in app.parse_commands(words)[0] if not word.startswith("-")]
        raise InputError(_told(error), f"See `{' '.join(['tamis', *chain])} --help`.") from error
    return result


def _told(error: CycloptsError) -> str:
    """The library's words; ours for a word too many, which it may tell as that or as an unknown command."""
    if isinstance(error, UnknownCommandError | UnusedCliTokensError) and error.unused_tokens:
        import difflib

        word = error.unused_tokens[0]
        near = difflib.get_close_matches(word, list(error.app or ()), n=1)
        what = "There is no command" if isinstance(error, UnknownCommandError) else "There is no place for"
        return f'{what} "{word}".' + (f' Did you mean "{near[0]}"?' if near else "")
    return str(error)
