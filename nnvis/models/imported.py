"""python: the user's own module, `target: package.module:Class`. The current directory is searched as well."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from torch import nn

from nnvis.config.problems import among
from nnvis.config.schema import PythonModel
from nnvis.errors import InputError


def imported_model(section: PythonModel) -> nn.Module:
    """Calls the target (a class, or a function that returns a module) with the section's arguments.

    Raises InputError when it cannot be found, cannot be called so, or gives no `torch.nn.Module`.
    """
    target = _imported(section.target)
    try:
        model = target(**section.arguments)
    except Exception as error:  # the user's code may raise anything
        raise InputError(f"model.arguments: {section.target}: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise InputError(
            f"model.target: {section.target} is no torch.nn.Module: calling it gives {type(model).__name__}"
        )
    return model


def _imported(target: str) -> Any:
    module_name, _, name = target.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does; the installed command does not
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            raise InputError(
                f"model.target: no module {error.name!r}; looked in {os.getcwd()} and where packages are installed"
            ) from error
        raise InputError(f"model.target: importing {module_name} failed: {type(error).__name__}: {error}") from error
    if not callable(found := getattr(module, name, None)):
        choices = [
            key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, nn.Module)
        ]
        raise InputError(f"model.target: {module_name} has no class {name}{among(name, choices)}")
    return found
