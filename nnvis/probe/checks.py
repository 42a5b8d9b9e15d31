"""Checks: what the rules of diagnosis need, measured between two steps on rows that stay the same.

    checker = Checker(model, loss_fn, Rows(inputs, targets), val=Rows(val_inputs, val_targets))
    log.check(checker.check(step=0))         # record.Check: arrays by quantity, and facts

The model runs on the side (see `untouched`): no dropout, nothing updated, no `.grad`, no random number drawn. Gradients
are taken of the first rows only, in `BATCHES` probe batches, so that a number that depends on the rows has an interval.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from nnvis.probe import references
from nnvis.probe.layers import Layer, find_layers, first_tensor, unit_dim, unit_dim_of
from nnvis.probe.parameters import gradient_values
from nnvis.probe.references import LossFacts, LossFunction
from nnvis.probe.schedule import MOST_ROWS
from nnvis.probe.statistics import SAFE_NORMS, pieces
from nnvis.probe.structure import Graph
from nnvis.probe.untouched import on_the_side
from nnvis.record.vocabulary import Check, FloatArray

GRADIENT_ROWS = 256
MOST_PRODUCTS = 150_000_000
"""Of large networks so many rows are looked at, 256 at least, as take this number of multiplications forward."""
MOST_VALUES = 2**20
"""Of those with large outputs fewer rows pass at once, so that an output holds at most so many values."""
BATCHES, LEAST_ROWS = 8, 2
_ROUNDING_OF_LOGS = 1e-2  # of log probabilities: the log of their sum is 0, up to so much
QUANTILES = 21
SAME = 1e-6
"""Two units are twins where their weights differ by less than this share of their norm."""
_KNOWN_BY_OUTPUT = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Tanh, nn.LeakyReLU)
"""Nonlinearities whose output tells their slope."""
_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)


class Rows(NamedTuple):
    """Fixed rows: what the model takes (a tensor, or a tuple or dict of them) and what the loss compares with."""

    inputs: Any
    targets: Any

    def __len__(self) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        first = first_tensor(self.inputs)
        return 0 if first is None else len(first)

    def to(self, device: torch.device | str) -> Rows:
        """The rows on a device."""
        return Rows(*(_mapped(part, lambda t: t.to(device)) for part in self))

    def some(self, most: int) -> Rows:
        """At most so many rows, in an order that has nothing to do with theirs; always the same, and a copy."""
        return self.pick(torch.randperm(len(self), generator=torch.Generator().manual_seed(0))[:most])

    def pick(self, order: Tensor) -> Rows:
        """A copy of the rows with these numbers (n,)."""
        return Rows(
            *(_mapped(part, lambda t: t.detach()[order.to(t.device)] if t.dim() else t.clone()) for part in self)
        )

    def part(self, start: int, stop: int) -> Rows:
        """The rows from `start` to `stop`."""
        return Rows(_cut(self.inputs, start, stop), _cut(self.targets, start, stop))


def call(model: nn.Module, inputs: Any) -> Any:
    """A model's outputs in its own number format; a tuple or dict of inputs is spread over its arguments."""
    with torch.autocast(_device_type(model), enabled=False):
        if isinstance(inputs, dict):
            return model(**inputs)
        return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


class Checker:
    """Fixed rows of a model, and what has to be computed of them once."""

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        rows: Rows,
        *,
        val: Rows | None = None,
        forward: Callable[[Any], Any] | None = None,
        most_rows: int | None = None,
        most_val_rows: int | None = None,
        gradient_rows: int = GRADIENT_ROWS,
        at_once: int = GRADIENT_ROWS,
        known: Mapping[str, Any] | None = None,
        parameters_stay: bool = False,
    ) -> None:
        """`forward` calls the model, in autocast say. Of more than 1024 rows some are picked, always the same.

        `most_rows` and `most_val_rows`: at most so many, where that is known before; of them
        the first `gradient_rows` are those that gradients are taken of; the others are passed so many `at_once`.
        `known`: facts about all rows of the data, told with those about the checked ones.
        `parameters_stay`: no pass writes to parameters, so that none has to be copied to be put back.

        `loss_fn` is called many times in a check. What a module holds is afterwards as it was; what a plain function
        keeps between its calls is not seen, and so not put back: make a module of it.

        Raises ValueError for fewer than 2 rows.
        """
        inner = getattr(model, "_orig_mod", model)
        self._model: nn.Module = inner.module if isinstance(inner, DistributedDataParallel) else inner
        self._loss_fn = loss_fn
        self._aside = nn.ModuleList([m for m in (self._model, loss_fn) if isinstance(m, nn.Module)])
        self._forward = forward or partial(call, self._model)
        self._rows = rows.some(most_rows or MOST_ROWS)
        if len(self._rows) < LEAST_ROWS:
            raise ValueError(f"a check needs at least {LEAST_ROWS} rows, got {len(self._rows)}")
        self._batches = min(BATCHES, len(self._rows))  # the XOR table has four rows
        self._most_val_rows = most_val_rows
        self._most_rows, self._gradient_rows, self._at_once = most_rows, gradient_rows, at_once
        self._val = val.some(most_val_rows or MOST_ROWS) if val is not None and len(val) else None
        self._facts: dict[str, Any] = {}
        self._known = dict(known or {})
        self._parameters_stay = parameters_stay
        self._graph: Graph | None = None
        self._twins = True  # whether there were any, so that they have to be looked for again
        self._loss = LossFacts("")
        self._classes: Tensor | None = None

    def check(self, step: int) -> Check:
        """Measures the model as it is now, after so many updates."""
        rows = self._rows
        watched = min(self._gradient_rows, len(rows)) // self._batches * self._batches
        seen = _Seen(self._model, watched, self._batches)
        with on_the_side(self._aside, parameters_stay=self._parameters_stay) as side:
            outputs, loss, losses = self._with_gradients(rows.part(0, watched), seen)
            if not self._facts:
                rows = self._keep_rows(seen)
            parts = [outputs]
            for start in range(watched, len(rows), self._at_once):
                with torch.no_grad(), seen.looking(gradients=False):
                    parts.append(self._forward(rows.part(start, start + self._at_once).inputs))
            outputs = _joined(parts)
            once = self._look_once(outputs, seen) if not self._facts else {}
            values = {**seen.values(), **self._of_outputs(outputs, losses), **once}
            if self._graph and self._twins:
                values["diagnosis_duplicate_fraction"] = shares = seen.twins(self._graph)
                self._twins = bool(np.nan_to_num(shares).any())
            if self._val is not None:
                side.validate()
                values["diagnosis_row_loss_val"] = self._losses(self._val)
                if has_running_statistics(self._model):
                    values["diagnosis_row_loss_eval"] = self._losses(self._rows)
        values["diagnosis_nonfinite"] = np.array([_nonfinite(outputs), _nonfinite(loss), float(seen.nonfinite)], float)
        return Check(step, values, self._facts)

    @property
    def trained(self) -> nn.ModuleList:
        """What training changes: the model, and the loss where that is a module."""
        return self._aside

    @property
    def rows(self) -> Rows:
        """The fixed training rows."""
        return self._rows

    @property
    def gradient_rows(self) -> Rows:
        """The rows that gradients are taken of."""
        return self._rows.part(0, min(self._gradient_rows, len(self._rows)))

    def loss(self, rows: Rows) -> Tensor:
        """0-d: the loss of these rows at once, with its graph; in whatever mode the model is."""
        loss = self._loss_fn(self._forward(rows.inputs), rows.targets)
        return loss if loss.dim() == 0 else loss.mean()

    def row_losses(self, rows: Rows | None = None) -> FloatArray:
        """(N,) of the fixed rows, or of these, one by one; in whatever mode the model is."""
        return self._losses(self._rows if rows is None else rows)

    def bounds(self, rows: Rows) -> tuple[FloatArray | None, FloatArray | None]:
        """(N,) of the best output that is the same for all of these rows, and at best; None where not known."""
        with torch.no_grad():
            outputs = self._forward(rows.inputs)
        if not isinstance(rows.targets, Tensor) or not isinstance(outputs, Tensor):
            return None, None
        found = references.identify(self._loss_fn, outputs, rows.targets)
        activation = (self._facts["output"].get("activations") or [""])[0] if self._facts else ""
        constant = references.constant_loss(found, self._loss_fn, outputs, rows.targets, activation)
        least = references.least_loss(found, rows.targets, outputs.shape)
        return None if constant is None else _array(constant), None if least is None else _array(least)

    def _keep_rows(self, seen: _Seen) -> Rows:
        """Fewer rows for a network that takes long; and of those without gradients fewer at once where it is large."""
        affordable = MOST_PRODUCTS // max(seen.products_a_row(), 1)
        self._most_rows = count = self._most_rows or max(GRADIENT_ROWS, min(MOST_ROWS, affordable))
        self._rows = self._rows.part(0, count)
        self._val = self._val.part(0, self._most_val_rows or count) if self._val is not None else None
        self._at_once = max(seen.rows, min(self._at_once, MOST_VALUES // seen.largest_output()))
        return self._rows

    def _with_gradients(self, rows: Rows, seen: _Seen) -> tuple[Any, Tensor, FloatArray]:
        """Outputs, loss, and the loss of these rows and of half of them."""
        with torch.enable_grad(), seen.looking(gradients=True):
            inputs = _requiring_gradient(rows.inputs)
            outputs = self._forward(inputs)
            loss = self._loss_fn(outputs, rows.targets)
            loss = loss if loss.dim() == 0 else loss.mean()
            tensor = first_tensor(outputs)
            if self._graph is None and tensor is not None:
                self._graph = Graph(tensor, seen.affine)
            seen.affine = {}
            parameters = [p for p in self._model.parameters() if p.requires_grad]
            sources = [*parameters, *(t for t in tensors(inputs) if t.requires_grad)]
            if loss.requires_grad and sources:
                with seen.parameters_looked_at(parameters):
                    torch.autograd.grad(loss, sources, allow_unused=True)
        half = len(rows) // 2
        with torch.no_grad():
            outputs = _detached(outputs)
            part = self._loss_fn(_cut(outputs, 0, half), _cut(rows.targets, 0, half))
        return outputs, loss.detach(), np.array([float(loss.detach()), float(part.mean())])

    def _of_outputs(self, outputs: Any, batch_losses: FloatArray) -> dict[str, FloatArray]:
        values: dict[str, FloatArray] = {"diagnosis_batch_loss": batch_losses}
        losses = references.rows_loss(self._loss_fn, outputs, self._rows.targets)
        count = len(self._rows)
        values["diagnosis_row_loss"] = np.full(count, np.nan) if losses is None else _array(losses)
        tensor = first_tensor(outputs)
        if tensor is not None and tensor.is_floating_point():
            values["diagnosis_output_range"] = _array(torch.stack([*tensor.detach().double().aminmax()]))
            if self._classes is not None and len(tensor) == len(self._classes):
                right = self._answers(tensor) == self._classes
                values["diagnosis_recall"] = np.array(
                    [
                        float(right[self._classes == c].double().mean()) if (self._classes == c).any() else np.nan
                        for c in range(len(self._facts["targets"]["counts"]))
                    ]
                )
        return values

    def _answers(self, outputs: Tensor) -> Tensor:
        """(N,) the class that each row is taken for."""
        if outputs.dim() == 2 and outputs.shape[1] > 1:
            return outputs.argmax(dim=1)
        return (outputs.reshape(len(outputs)) > (0.0 if self._loss.kind == "binary_cross_entropy" else 0.5)).long()

    def _losses(self, rows: Rows) -> FloatArray:
        """(N,) of rows passed as they are."""
        with torch.no_grad():
            parts = [self._forward(rows.part(i, i + self._at_once).inputs) for i in range(0, len(rows), self._at_once)]
            losses = references.rows_loss(self._loss_fn, _joined(parts), rows.targets)
        return np.full(len(rows), np.nan) if losses is None else _array(losses)

    def _look_once(self, outputs: Any, seen: _Seen) -> dict[str, FloatArray]:
        """Facts, and the yardsticks that stay the same."""
        tensor = first_tensor(outputs)
        targets = self._rows.targets
        self._loss = references.identify(self._loss_fn, outputs, targets)
        with torch.no_grad():
            self._facts = {
                **self._known,
                "rows": len(self._rows),
                "most_rows": self._most_rows,
                "gradient_rows": self._gradient_rows,
                "val_rows": len(self._val) if self._val is not None else 0,
                "layers": seen.table(),
                "inputs": _input_facts(self._rows.inputs),
                "targets": _target_facts(targets, tensor),
                "output": _output_facts(tensor, self._graph),
                "loss": self._loss_facts(outputs),
                "operations": self._graph.operations if self._graph else {},
                "affine_pairs": self._graph.pairs if self._graph else [],
            }
            self._classes = _classes(targets, tensor)
            values = {}
            if isinstance(targets, Tensor) and isinstance(outputs, Tensor):
                x = references.features(self._rows.inputs)
                linear = references.linear_loss(self._loss, x, targets, outputs)
                neighbour = references.neighbour_errors(x, self._classes)
                activation = (self._facts["output"].get("activations") or [""])[0]
                constant = references.constant_loss(self._loss, self._loss_fn, outputs, targets, activation)
                found = {"constant": constant, "linear": linear, "neighbour": neighbour}
                values = {f"diagnosis_row_loss_{n}": _array(rows) for n, rows in found.items() if rows is not None}
        return values

    def _loss_facts(self, outputs: Any) -> dict[str, Any]:
        targets, function = self._rows.targets, self._loss_fn
        facts: dict[str, Any] = {"kind": self._loss.kind, "scale": self._loss.scale, "reduction": "other"}
        rows = references.rows_loss(function, outputs, targets)
        if rows is None or not isinstance(outputs, Tensor):
            return facts
        ratios = []
        for count in (len(rows), len(rows) // 2):
            whole = function(outputs[:count], targets[:count])
            ratios.append(float(whole.mean()) / float(rows[:count].mean() or math.nan))
        facts["broadcast"] = _is_broadcast(function, outputs, targets)
        if all(math.isclose(r, 1, rel_tol=1e-2) for r in ratios):
            facts["reduction"] = "mean"
        elif math.isclose(ratios[0], len(rows), rel_tol=1e-2):
            facts["reduction"] = "sum"
        if self._loss.of_probabilities or self._loss.kind == "cross_entropy_normalised":
            impossible = references.rows_loss(function, _sure_and_wrong(outputs[:2], targets[:2]), targets[:2])
            facts["unstable"] = impossible is not None and not bool(torch.isfinite(impossible).all())
        return facts


def has_running_statistics(model: nn.Module) -> bool:
    """Whether norm layers go by other numbers in validation than in training."""
    return any(isinstance(m, _NormBase) and m.track_running_stats for m in model.modules())


# ---------------------------------------------------------------- what hooks see


@dataclass
class _Call:
    """One call of a layer."""

    layer: Layer
    shape: tuple[int, ...] | None
    norm: FloatArray | None = None  # (P,)
    grad_norm: FloatArray | None = None  # (P,)
    slope_sum: Tensor | None = None  # (U,) of slopes over rows and places, largest slope 1
    slope_any: Tensor | None = None  # (U,) whether it was ever not 0
    slope_count: int = 0


@dataclass
class _Seen:
    """What the passes of one check showed, by row: a layer's name, with #2 for its second call in a pass."""

    model: nn.Module
    rows: int  # of the pass with gradients
    batches: int  # that these are taken in
    calls: dict[str, _Call] = field(default_factory=dict)
    affine: dict[Any, str] = field(default_factory=dict)  # node of the graph -> layer
    nonfinite: int = 0  # NaN and Inf among the gradients
    _with_gradients: bool = False

    def __post_init__(self) -> None:
        self._by_module = {layer.module: layer for layer in find_layers(self.model)}
        self._counts: dict[str, int] = {}
        self._unit_dim = -1
        self._parameter_norms: dict[str, float] = {}
        self._handles: list[RemovableHandle] = []

    @contextmanager
    def looking(self, *, gradients: bool) -> Iterator[None]:
        """While inside, forward passes are looked at. No hook stays on a graph: it would keep itself alive."""
        self._with_gradients = gradients
        self._counts, self._unit_dim = {}, -1
        self._handles = [register_module_forward_hook(self._after_forward)]
        try:
            yield
        finally:
            for handle in self._handles:
                handle.remove()

    @contextmanager
    def parameters_looked_at(self, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
        """While inside, their gradients are read one by one, and none of them is kept."""
        squares: dict[int, Tensor] = {}

        def read(parameter: nn.Parameter, gradient: Tensor) -> Tensor | None:
            values = gradient_values(gradient.detach())
            squares[id(parameter)] = torch.linalg.vector_norm(values, dtype=torch.float64).square()
            return None if gradient.is_sparse else gradient.new_zeros(()).expand_as(gradient)

        before = [parameter._backward_hooks for parameter in parameters]
        handles = [parameter.register_hook(partial(read, parameter)) for parameter in parameters]
        try:
            yield
        finally:
            for parameter, handle, hooks in zip(parameters, handles, before, strict=True):
                handle.remove()
                if hooks is None:
                    parameter._backward_hooks = None
        for layer in self._by_module.values():
            own = [squares[id(p)] for p in layer.parameters if id(p) in squares]
            if own:
                self._parameter_norms[layer.name] = float(torch.stack(own).sum().sqrt())

    def _after_forward(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._unit_dim = unit_dim(module, output, self._unit_dim)
        layer = self._by_module.get(module)
        if layer is None:
            return
        number = self._counts[layer.name] = self._counts.get(layer.name, 0) + 1
        name = layer.name if number == 1 else f"{layer.name}#{number}"
        x = first_tensor(output)
        usable = x is not None and x.is_floating_point() and x.numel() > 0
        call = self.calls.setdefault(name, _Call(layer, tuple(x.shape[1:]) if x is not None else None))
        if not usable or x is None:
            return
        if layer.nonlinearity:
            self._read_slopes(call, layer.module, first_tensor(inputs), x.detach())
        if self._with_gradients:
            call.norm = self._norms(x.detach())
            if x.requires_grad:
                self._handles.append(x.register_hook(partial(self._gradient_arrived, call)))
            if is_affine(module) and x.grad_fn is not None:
                self.affine[x.grad_fn] = layer.name

    def _gradient_arrived(self, call: _Call, gradient: Tensor) -> None:
        call.grad_norm = self._norms(gradient.detach())
        if not np.isfinite(call.grad_norm).all():
            self.nonfinite += _nonfinite(gradient)

    def _norms(self, x: Tensor) -> FloatArray:
        """(P,) root mean square over each probe batch's rows of their L2 norms."""
        if len(x) != self.rows:  # time comes first, say: rows cannot be told apart
            return np.repeat(_row_norms(x.reshape(1, -1)) / math.sqrt(self.rows), self.batches)
        return _row_norms(x.reshape(self.batches, -1)) / math.sqrt(self.rows / self.batches)

    def _read_slopes(self, call: _Call, module: nn.Module, z: Tensor | None, y: Tensor) -> None:
        units = unit_dim_of(y.dim(), self._unit_dim)
        for part in pieces(y) if units and isinstance(module, _KNOWN_BY_OUTPUT) else [y]:
            slope = normalised_slope(module, z, part)
            if slope is None:
                return
            others = [d for d in range(slope.dim()) if d != units]
            total, active = slope.sum(others, dtype=torch.float64), slope.amax(others) != 0
            if call.slope_sum is None or call.slope_any is None:
                call.slope_sum, call.slope_any = total, active
            elif call.slope_sum.shape == total.shape:
                call.slope_sum, call.slope_any = call.slope_sum + total, call.slope_any | active
            call.slope_count += slope.numel() // slope.shape[units]

    def products_a_row(self) -> int:
        """About how many multiplications a row takes on its way forward: each weight, at each place."""
        total = 0
        for call in self.calls.values():
            for weight in call.layer.parameters:
                if weight.dim() > 1:
                    total += weight.numel() * max(math.prod(call.shape or (1,)) // len(weight), 1)
        return total

    def largest_output(self) -> int:
        """How many values of a row a layer puts out at most."""
        return max((math.prod(call.shape or (1,)) for call in self.calls.values()), default=1) or 1

    def table(self) -> list[dict[str, Any]]:
        """The rows, as JSON."""
        return [
            {
                "name": name,
                "kind": call.layer.kind,
                "shape": call.shape,
                "parameters": sum(p.numel() for p in call.layer.parameters),
                "trainable": any(p.requires_grad for p in call.layer.parameters),
                "affine": is_affine(call.layer.module),
                "norm": isinstance(call.layer.module, _NORMS),
                "nonlinearity": call.layer.nonlinearity,
                "bounded": call.layer.bounds is not None,
            }
            for name, call in self.calls.items()
        ]

    def values(self) -> dict[str, FloatArray]:
        """The arrays (L, …) of all layers."""
        calls = self.calls.values()
        gap = np.full(self.batches, math.nan)
        return {
            "diagnosis_activation_norm": np.stack([gap if c.norm is None else c.norm for c in calls]),
            "diagnosis_activation_grad_norm": np.stack([gap if c.grad_norm is None else c.grad_norm for c in calls]),
            "diagnosis_parameter_grad_norm": np.array(
                [self._parameter_norms.get(name, math.nan) for name in self.calls]
            ),
            "diagnosis_slope_quantiles": _slope_quantiles(list(calls)),
            "diagnosis_flat_fraction": np.array(
                [math.nan if c.slope_any is None else float((~c.slope_any).double().mean()) for c in calls]
            ),
        }

    def twins(self, graph: Graph) -> FloatArray:
        """(L,) the share of a layer's units that have a twin; of affine layers that another one follows."""
        modules = {layer.name: layer.module for layer in self._by_module.values()}
        followers: dict[str, list[nn.Module]] = {}
        for name, before in graph.predecessors.items():
            for earlier in before:
                followers.setdefault(earlier, []).append(modules[name])
        shares = {name: duplicate_fraction(modules[name], after) for name, after in followers.items()}
        return np.array([shares.get(name, math.nan) for name in self.calls])


def _row_norms(x: Tensor) -> FloatArray:
    """(B,) float64 L2 norms of the rows of (B, n), right for 1e-23 and for 1e20."""
    low, high = SAFE_NORMS
    if x.dtype is torch.float32:
        quick = torch.linalg.vector_norm(x, dim=1).cpu().numpy().astype(float)
        if low < quick.min() and quick.max() < high:
            return quick
    x = x.double()
    peak = x.abs().amax().clamp_min(1e-300)
    return _array(torch.linalg.vector_norm(x / peak, dim=1) * peak)


def is_affine(module: nn.Module) -> bool:
    """Whether the module is a linear map, with a bias or without."""
    return isinstance(module, nn.Linear | _ConvNd)


def duplicate_fraction(module: nn.Module, followers: list[nn.Module]) -> float:
    """Share of an affine layer's units that have a twin: the same weights and bias, and the same weights behind."""
    weight: Tensor = module.weight.detach()  # pyright: ignore[reportAssignmentType, reportCallIssue, reportAttributeAccessIssue]
    if isinstance(module, _ConvNd) and module.transposed:
        weight = weight.transpose(0, 1)
    incoming = weight.flatten(1).double()
    if isinstance(module.bias, Tensor):
        incoming = torch.cat([incoming, module.bias.detach().double()[:, None]], dim=1)
    units = len(incoming)
    outgoing = [_columns(f, units) for f in followers]
    behind = torch.cat([o for o in outgoing if o is not None], dim=1) if any(o is not None for o in outgoing) else None
    if units < 2:
        return 0.0
    if behind is None:
        return math.nan
    both = torch.cat([incoming, behind], dim=1)
    direction = torch.linspace(0.5, 1.5, both.shape[1], dtype=torch.float64, device=both.device).sin() + 1.1
    order = (both @ direction).argsort()
    alike = _alike(incoming[order]) & _alike(behind[order])
    twin = torch.zeros(units, dtype=torch.bool, device=both.device)
    twin[1:] |= alike
    twin[:-1] |= alike
    return float(twin.double().mean())


def _alike(vectors: Tensor) -> Tensor:
    """(U - 1,) whether each vector is that before it."""
    size = torch.maximum(vectors[1:].norm(dim=1), vectors[:-1].norm(dim=1))
    return (vectors[1:] - vectors[:-1]).norm(dim=1) <= SAME * size


def _columns(module: nn.Module, units: int) -> Tensor | None:
    """(U, …) what an affine layer makes of each unit before it; None where that cannot be told."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or (isinstance(module, _ConvNd) and (module.transposed or module.groups > 1)):
        return None
    weight = weight.detach().double()
    if weight.shape[1] % units:
        return None
    return weight.reshape(len(weight), units, -1).transpose(0, 1).flatten(1)


def normalised_slope(module: nn.Module, z: Tensor | None, y: Tensor) -> Tensor | None:
    """A nonlinearity's slope at each place over its largest slope, in [0, 1]; None where it cannot be told."""
    match module:
        case nn.ReLU():
            return (y > 0).float()
        case nn.ReLU6():
            return ((y > 0) & (y < 6)).float()
        case nn.Sigmoid():
            return 4 * y.float() * (1 - y.float())
        case nn.Tanh():
            return 1 - y.float().square()
        case nn.LeakyReLU():
            return torch.where(y > 0, 1.0, abs(module.negative_slope))
    if z is None or z.shape != y.shape or z is y or getattr(module, "inplace", False):
        return None
    with torch.enable_grad():
        given = z.detach().requires_grad_()
        slope = torch.autograd.grad(module.forward(given).sum(), given)[0].abs()
        if not hasattr(module, "weight"):
            grid = torch.linspace(-6, 6, 1201, dtype=given.dtype, device=given.device).requires_grad_()
            largest = torch.autograd.grad(module.forward(grid).sum(), grid)[0].abs().max()
            slope = slope / torch.maximum(largest, slope.max()).clamp_min(1e-30)
    return slope.float()


def _slope_quantiles(calls: Sequence[_Call]) -> FloatArray:
    """(L, 21) of the units' mean slopes; those of equally many units at once."""
    sums = {i: (c.slope_sum, c.slope_count) for i, c in enumerate(calls) if c.slope_sum is not None}
    means = {i: np.atleast_1d((total / count).cpu().numpy()) for i, (total, count) in sums.items()}
    by_size: dict[int, list[int]] = {}
    for i, mean in means.items():
        by_size.setdefault(len(mean), []).append(i)
    quantiles = np.full((len(calls), QUANTILES), math.nan)
    for group in by_size.values():
        stacked = np.stack([means[i] for i in group])
        quantiles[group] = np.quantile(stacked, np.linspace(0, 1, QUANTILES), axis=1).T
    return quantiles


# ---------------------------------------------------------------- facts about the data


def _input_facts(inputs: Any) -> dict[str, Any]:
    x = inputs if isinstance(inputs, Tensor) else None
    if x is None or not x.is_floating_point() or x.dim() < 2:
        return {"numbers": False}
    x = x.detach().double().flatten(1)
    mean, spread = x.mean(dim=0), x.std(dim=0)
    sizes = x.square().mean(dim=0).sqrt()
    sizes = sizes[sizes > 0]
    return {
        "numbers": True,
        "table": inputs.dim() == 2,
        "features": x.shape[1],
        "constant": int((x == x[0]).all(dim=0).sum()),
        "rms": float(x.square().mean().sqrt()),
        "mean_over_std": float(mean.norm() / spread.norm()) if float(spread.norm()) else math.inf,
        "largest_over_median_rms": float(sizes.max() / sizes.median()) if len(sizes) else 1.0,
        "largest": float(x.abs().max()),
    }


def _target_facts(targets: Any, outputs: Tensor | None) -> dict[str, Any]:
    if not isinstance(targets, Tensor) or not targets.numel():
        return {"known": False}
    y = targets.detach().double()
    classes = _classes(targets, outputs)
    values = y.unique()
    facts = {
        "known": True,
        "shape": list(targets.shape[1:]),
        "integers": not targets.is_floating_point(),
        "mean": float(y.mean()),
        "std": float(y.std()) if y.numel() > 1 else 0.0,
        "rms": float(y.square().mean().sqrt()),
        "low": float(y.min()),
        "high": float(y.max()),
        "distinct": len(values),
        "whole": bool((values == values.round()).all()),
    }
    if classes is not None:
        width = outputs.shape[1] if outputs is not None and outputs.dim() == 2 else 1
        facts["counts"] = torch.bincount(classes, minlength=max(2, width)).tolist()
    return facts


def _output_facts(outputs: Tensor | None, graph: Graph | None) -> dict[str, Any]:
    if outputs is None:
        return {"known": False}
    normalised = False
    if outputs.dim() == 2 and outputs.is_floating_point():
        normalised = bool(outputs.detach().double().logsumexp(dim=1).abs().max() < _ROUNDING_OF_LOGS)
    return {
        "known": True,
        "shape": list(outputs.shape[1:]),
        "log_probabilities": normalised,
        "activations": list(graph.output_activations) if graph else [],
        "in_graph": bool(graph and graph.operations),
    }


def _is_broadcast(loss_fn: LossFunction, outputs: Tensor, targets: Any) -> bool:
    """Whether a loss compares every row's output with every row's target: asked about outputs that are the targets."""
    if not isinstance(targets, Tensor) or outputs.shape == targets.shape or outputs.numel() != targets.numel():
        return False
    wanted = targets.to(outputs.dtype)
    if float(wanted.min()) >= 0 and float(wanted.max()) <= 1:
        wanted = 0.05 + 0.9 * wanted  # a probability that has a log
    rows = references.rows_loss(loss_fn, wanted.reshape(outputs.shape), targets)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says so, too
        whole = float(loss_fn(wanted.reshape(outputs.shape), targets).mean())
    by_row = math.nan if rows is None else float(rows.mean())
    same_shape = float(loss_fn(wanted.reshape(outputs.shape), targets.reshape(outputs.shape)).mean())
    return whole > 1.5 * by_row + 1e-9 and whole > 1.5 * same_shape + 1e-9


def _sure_and_wrong(outputs: Tensor, targets: Tensor) -> Tensor:
    """Probabilities as softmax and sigmoid give them where they overflow: 0 for the target, 1 for something else."""
    share = references.class_shares(targets, outputs.shape)
    if share is not None:
        return torch.zeros_like(outputs).scatter_(1, share.argmin(dim=1, keepdim=True), 1.0)
    return (targets.reshape(outputs.shape) < 0.5).to(outputs.dtype)


def _classes(targets: Any, outputs: Tensor | None) -> Tensor | None:
    """(N,) class numbers, where the targets are classes."""
    if not isinstance(targets, Tensor) or outputs is None or not targets.numel():
        return None
    shares = references.class_shares(targets, outputs.shape)
    if shares is not None:
        return shares.argmax(dim=1)
    if targets.numel() == len(targets) and outputs.numel() == len(outputs):
        flat = targets.reshape(-1)
        if bool(((flat == 0) | (flat == 1)).all()):
            return flat.long()
    return None


# ---------------------------------------------------------------- tensors in whatever they come in


def _cut(value: Any, start: int, stop: int) -> Any:
    return _mapped(value, lambda t: t[start:stop] if t.dim() else t)


def _detached(value: Any) -> Any:
    return _mapped(value, Tensor.detach)


def _requiring_gradient(inputs: Any) -> Any:
    """Copies, so that layers see a graph even where the first parameters are frozen."""
    return _mapped(inputs, lambda t: t.detach().clone().requires_grad_(t.is_floating_point()))


def _mapped(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return _made_like(value, {key: _mapped(item, function) for key, item in value.items()})
    return _made_like(value, [_mapped(item, function) for item in value]) if isinstance(value, tuple | list) else value


def _made_like(container: Any, items: Any) -> Any:
    """The container's kind with other items: named tuples and dicts whose keys are attributes stay what they are."""
    if isinstance(container, dict):
        return items if type(container) is dict else type(container)(**items)
    return type(container)(*items) if hasattr(container, "_fields") else type(container)(items)


def tensors(value: Any) -> list[Tensor]:
    """Those in a tensor, tuple, list or dict, at any depth."""
    found: list[Tensor] = []
    _mapped(value, lambda t: found.append(t) or t)
    return found


def _joined(parts: list[Any]) -> Any:
    """The outputs of several passes, detached, in whatever they come; the first pass's of what has no rows."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(parts).detach() if first.dim() and len({p.shape[1:] for p in parts}) == 1 else first.detach()
    if isinstance(first, dict):
        return _made_like(first, {key: _joined([part[key] for part in parts]) for key in first})
    if isinstance(first, tuple | list):
        return _made_like(first, [_joined(list(items)) for items in zip(*parts, strict=True)])
    return first


def _nonfinite(value: Any) -> int:
    return sum(int(t.numel() - torch.isfinite(t).sum()) for t in tensors(value))


def _array(x: Tensor) -> FloatArray:
    return x.detach().double().cpu().numpy()


def _device_type(model: nn.Module) -> str:
    return next((p.device.type for p in model.parameters()), "cpu")
