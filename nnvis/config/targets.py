"""`target: package.module:name` in a config: the user's own code, found and called. Needs `--trust`, checked when read.

build = import_target("my_models:Net", "model.target: my_models:Net")
model = run_theirs(lambda: build(width=64), "model.target: my_models:Net")
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from nnvis.config.problems import among
from nnvis.errors import InputError

T = TypeVar("T")


def import_target(target: str, where: str) -> Callable[..., Any]:
    """The callable `module:name`, looked for in the current directory too. InputErrors open with `where`."""
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise InputError(f"{where}: expected package.module:name")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as `python -m` does; the installed command does not
    importlib.invalidate_caches()
    try:
        module = run_theirs(lambda: importlib.import_module(module_name), where)
    except InputError as error:
        missing = error.__cause__.name if isinstance(error.__cause__, ModuleNotFoundError) else None
        if missing and f"{module_name}.".startswith(f"{missing}."):
            raise InputError(f"{where}: no module {missing!r} in {folder} or where packages are installed") from error
        raise
    found = getattr(module, name, None)
    if not callable(found):
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == module_name]
        raise InputError(
            f"{where}: {module_name} has no {name!r} that can be called{among(name, own, more=module_name)}"
        )
    return found


def run_theirs(call: Callable[[], T], where: str) -> T:
    """What the user's code returns; whatever it raises becomes one InputError line with the place it came from."""
    try:
        return call()
    except (Exception, SystemExit) as error:
        text = " ".join((error.msg if isinstance(error, SyntaxError) else str(error)).split())
        raise InputError(": ".join(filter(None, (where, type(error).__name__, text))) + _place(error)) from error


def _place(error: BaseException) -> str:
    """Where in their code it happened; nothing where our call of it did not fit."""
    if isinstance(error, SyntaxError):
        return f" ({error.filename}:{error.lineno})"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    ours = Path(frame.filename).is_relative_to(Path(__file__).parents[1]) or "importlib" in frame.filename
    return "" if ours else f" ({frame.filename}:{frame.lineno})"
