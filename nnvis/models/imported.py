"""python: the user's own module, `target: package.module:Class`. The current directory is searched as well."""

from __future__ import annotations

from torch import nn

from nnvis.config.schema import PythonModel
from nnvis.config.targets import import_target, run_theirs
from nnvis.errors import InputError


def imported_model(section: PythonModel) -> nn.Module:
    """Calls the target (a class, or a function that returns a module) with the section's arguments.

    Raises InputError when it cannot be found, cannot be called so, or gives no `torch.nn.Module`.
    """
    where = f"model.target: {section.target}"
    target = import_target(section.target, where)
    model = run_theirs(lambda: target(**section.arguments), where)
    if not isinstance(model, nn.Module):
        raise InputError(f"{where}: expected a torch.nn.Module; calling it gives {type(model).__name__}")
    return model
