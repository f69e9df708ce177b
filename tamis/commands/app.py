"""The tree of commands: which there are, and in which group of `tamis --help` each stands.

A command's module is imported when that command is asked for, or help; and what is heavy inside its functions.
"""

from collections.abc import Sequence
from typing import Annotated

from cyclopts import App, CycloptsError, Group, Parameter, UnknownCommandError, UnusedCliTokensError

from tamis.commands.options import Result, flag
from tamis.errors import InputError
from tamis.version import __version__

HELP = {"--help", "-h"}
ELSE = Group("Else", sort_key=4)
COMMANDS = {
    Group("Without a server", sort_key=1): ("curate:curate", "train:train", "train:probe", "demo:demo"),
    Group("With a server", sort_key=2): (
        *("remote:upload", "remote:manifest"),
        *("catalog:datasets", "catalog:curations", "catalog:manifests", "catalog:encoders", "catalog:trainings"),
        "catalog:jobs",
    ),
    Group("A server of your own", sort_key=3): ("server:serve", "server:worker", "server:keys"),
    ELSE: ("bench:bench",),
}

app = App(
    name="tamis",
    help="Finds the difficult examples of an image data set.",
    help_format="plaintext",
    version=f"tamis {__version__}",
    version_flags=["--version"],
    exit_on_error=False,
    print_error=False,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
app.meta.suppress_keyboard_interrupt = False
for _group, _places in COMMANDS.items():
    for _order, _place in enumerate(_places):
        app.command(f"tamis.commands.{_place}", name=_place.partition(":")[2], group=_group, sort_key=_order)
app.command("tamis.commands.completion:install_completion", name="--install-completion", group=ELSE, sort_key=1)
for _flag in ("--help", "--version"):
    app[_flag].group = (ELSE,)


@app.meta.default
def _launch(
    *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    json: Annotated[bool, flag("End with one JSON object on the last line.")] = False,
) -> Result:
    command, bound, _ = app.parse_args(words)
    if getattr(command, "__func__", None) is App.help_print and not HELP & set(words):
        app.help_print(words)
        raise InputError("A command is missing.", "Choose one of those above.")
    result: Result = command(*bound.args, **bound.kwargs)
    return result


def run(words: Sequence[str]) -> Result:
    """Runs the command that the words are; returns what `--json` shows. Raises InputError for words that are none."""
    if not words or HELP & set(words):
        # The list of commands shows what each says of itself.
        *_, asked = app.parse_commands([word for word in words if word not in HELP])[1]
        for name in asked:
            asked[name]
    try:
        result: Result = app.meta(words)
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
