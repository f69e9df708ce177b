"""`tamis --install-completion`: the words of the command line at the touch of the tab key."""

from typing import Annotated, Literal

from cyclopts import Parameter

from tamis.commands.groups import WHAT
from tamis.commands.options import Result
from tamis.errors import InputError


def install_completion(
    *,
    shell: Annotated[
        Literal["bash", "zsh", "fish"] | None, Parameter(help="By default the one this is typed in.", group=WHAT)
    ] = None,
) -> Result:
    from cyclopts.completion import ShellDetectionError

    from tamis.commands.app import app

    try:
        path = app.install_completion(shell=shell)
    except ShellDetectionError as error:
        raise InputError("Which shell this is cannot be told.", "Name it with --shell.") from error
    print(f"{path} is written; a new shell knows it.")
    return {"path": str(path)}
