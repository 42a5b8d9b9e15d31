"""Checks arguments for torch against the table of signatures, and fills in shorthands.

    arguments, complaints = check_arguments("Conv2d", [16, 3], table.layers["Conv2d"], LAYER_RANGES, "in_channels")
    arguments          # {"out_channels": 16, "kernel_size": 3}

A list gives arguments by position, a single value the first one; an argument that follows from the
layer's input is passed over. Ranges are torch's own where it checks them, else what makes sense.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from nnvis.config.problems import among, closest, shown
from nnvis.config.torch_signatures import Parameter, Signature


class Complaint(NamedTuple):
    """What is wrong with a part of a value; `path` leads from the value to the part."""

    path: tuple[str | int, ...]
    message: str
    at_key: bool = False  # point at the key rather than at what it holds


def _by_name(names: dict[str, str]) -> dict[str, str]:
    return {name: interval for interval, words in names.items() for name in words.split()}


OPTIMIZER_RANGES = _by_name(
    {
        "[0, inf)": "lr eps weight_decay momentum lr_decay alpha lambd t0 momentum_decay initial_accumulator_value "
        "tolerance_grad tolerance_change",
        "[1, inf)": "max_iter max_eval history_size ns_steps d",
        "(0, inf)": "etas step_sizes",
        "[0, 1)": "betas",
        "[0, 1]": "rho",
        "(-inf, 0]": "beta2_decay",
    }
)
SCHEDULER_RANGES = _by_name(
    {
        "[0, inf)": "total_iters milestones patience cooldown eps threshold gamma power eta_min min_lr base_lr",
        "[1, inf)": "step_size T_max T_0 T_mult total_steps epochs steps_per_epoch step_size_up step_size_down",
        "(0, inf)": "max_lr div_factor final_div_factor",
        "[0, 1]": "factor end_factor pct_start base_momentum max_momentum",
        "[0, 1)": "ReduceLROnPlateau.factor",
        "(0, 1]": "start_factor",
    }
)
LAYER_RANGES = _by_name(
    {
        "[0, inf)": "eps layer_norm_eps proj_size padding output_padding",
        "[1, inf)": "in_features out_features in_channels out_channels num_features num_channels num_groups groups "
        "kernel_size stride dilation output_size normalized_shape input_size hidden_size num_layers embed_dim "
        "num_heads kdim vdim d_model nhead dim_feedforward num_embeddings embedding_dim num_parameters size "
        "upscale_factor downscale_factor divisor_override",
        "(0, inf)": "scale_factor max_norm",
        "[0, 1]": "p dropout momentum",
        "(0, 1)": "output_ratio",
    }
)

UNBOUNDED = {"value", "norm_type", "min_val", "max_val", "min_value", "max_value", "threshold"}
"""Arguments of layers where infinity means something."""


def check_arguments(
    kind: str, given: Any, signature: Signature, ranges: Mapping[str, str], inferred: str | None = None
) -> tuple[dict[str, Any], list[Complaint]]:
    """Arguments by name and what is wrong with them; `given` is a mapping, a list by position, or one value."""
    free = [name for name in signature if name != inferred]
    if isinstance(given, dict):
        places: dict[str, tuple[str | int, ...]] = {name: (name,) for name in given}
    else:
        values = given if isinstance(given, list) else [given]
        if len(values) > len(free):
            return {}, [Complaint((), _too_many(kind, values, free))]
        places = {name: (index,) if isinstance(given, list) else () for index, name in enumerate(free)}
        given = dict(zip(free, values, strict=False))
    complaints = list(_misnamed(kind, given, signature, free))
    complaints += [
        Complaint(places[name], wrong if name in places[name] else f"{name} {wrong}")
        for name in signature
        if name in given and (wrong := _wrong(kind, name, given[name], signature[name], ranges))
    ]
    arguments = {name: _as_plain(given[name], signature[name]) for name in signature if name in given}
    return arguments, complaints or list(_together(kind, arguments))


def _misnamed(kind: str, given: Mapping[str, Any], signature: Signature, free: list[str]) -> Iterator[Complaint]:
    """Arguments that there are not, and arguments that are missing."""
    for name in given:
        if name not in signature:
            yield Complaint((name,), f"{kind} takes no such argument{among(name, free)}", at_key=True)
    for name in free:
        if signature[name].required and name not in given:
            yield Complaint((), f"{kind} needs `{name}` ({_in_words(signature[name])})")


def _together(kind: str, arguments: Mapping[str, Any]) -> Iterator[Complaint]:
    """What torch refuses only in combination."""
    if kind == "SGD" and arguments.get("nesterov") and (not arguments.get("momentum") or arguments.get("dampening")):
        yield Complaint((), "nesterov needs momentum above 0 and no dampening")
    if kind.startswith("Conv") and arguments.get("out_channels", 0) % arguments.get("groups", 1):
        yield Complaint((), "out_channels should be a multiple of groups")
    one_cycle = [arguments.get(name) is None for name in ("total_steps", "epochs", "steps_per_epoch")]
    if kind == "OneCycleLR" and one_cycle in ([True, True, False], [True, False, True]):
        yield Complaint((), "epochs and steps_per_epoch go together; without both the cycle is as long as the run")


def _too_many(kind: str, values: list[Any], free: list[str]) -> str:
    takes = f"takes {len(free)} ({', '.join(free)})" if free else "takes none"
    hint = f"; for one argument that is a list write `{kind}: {{{free[0]}: [...]}}`" if free else ""
    return f"{len(values)} arguments by position, but {kind} {takes}{hint}"


def _wrong(kind: str, name: str, value: Any, parameter: Parameter, ranges: Mapping[str, str]) -> str:
    """What is wrong with one argument, "" when nothing is."""
    if not any(_fits(value, option) for option in parameter.types):
        close = closest(value, [option.strip("'") for option in parameter.types if option.startswith("'")])
        hint = f'; did you mean "{close}"?' if close else ""
        return f"should be {_in_words(parameter)}, got {shown(value)}{hint}"
    interval = ranges.get(f"{kind}.{name}", ranges.get(name))
    if kind.endswith(("Pad1d", "Pad2d", "Pad3d")):
        interval = None  # negative padding crops
    for number in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(number, int | float) or isinstance(number, bool):
            continue
        if isinstance(number, int) and abs(number) >= 2**63:
            return f"is too large for torch: {shown(number)}"
        if not math.isfinite(number) and (math.isnan(number) or name not in UNBOUNDED):
            return f"should be a finite number, got {shown(number)}"
        if interval and not _within(number, interval):
            return f"should be {_interval_in_words(interval)}, got {shown(number)}"
    return ""


def _fits(value: Any, option: str) -> bool:
    """Whether a plain value is of a type of the table."""
    if option.endswith("]"):
        element, _, length = option.removesuffix("]").partition("[")
        options = (element.removesuffix("?"), "null") if element.endswith("?") else (element,)
        return (
            isinstance(value, list | tuple)
            and (len(value) == int(length) if length else len(value) > 0)
            and all(any(_fits(item, each) for each in options) for item in value)
        )
    if isinstance(value, bool):
        return option == "bool"
    if option.startswith("'"):
        return value == option.strip("'")
    kinds = {"int": int, "float": int | float, "str": str, "null": type(None)}
    return option in kinds and isinstance(value, kinds[option])


def _as_plain(value: Any, parameter: Parameter) -> Any:
    """Tuples as lists, whole numbers as floats where torch takes nothing else."""
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, int) and not isinstance(value, bool) and "float" in parameter.types:
        return float(value) if abs(value) < 2**63 else value
    return value


def _within(number: float, interval: str) -> bool:
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    above = number >= low if interval[0] == "[" else number > low
    return above and (number <= high if interval[-1] == "]" else number < high)


def _interval_in_words(interval: str) -> str:
    low, high = interval[1:-1].split(", ")
    if high == "inf":
        return f"at least {low}" if interval[0] == "[" else f"more than {low}"
    if low == "-inf":
        return f"at most {high}"
    return f"in {interval}"


_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "null": "null",
}
_MANY = {"int": "whole numbers", "float": "numbers"}


def _in_words(parameter: Parameter) -> str:
    """What an argument may be: "a whole number or a list of 2 whole numbers"."""
    words = []
    for option in parameter.types:
        element, bracket, length = option.removesuffix("]").partition("[")
        if not bracket:
            words.append(_WORDS.get(option, option.replace("'", '"')))
        else:
            many = _MANY[element.removesuffix("?")]
            words.append(f"a list of {length} {many}" if length else f"a list of {many}")
    return " or ".join(words)
