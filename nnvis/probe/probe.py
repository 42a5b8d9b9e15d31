"""Measures a network while it trains, at chosen steps, without changing a bit of the training.

    with Probe(model, [optimizer], write=log.write) as probe:
        for inputs, targets in batches:
            loss = criterion(model(inputs), targets)
            loss.backward()
            optimizer.step()          # ends a step; a measured one is handed to `write`
            optimizer.zero_grad()

How it sees: on a measured step PyTorch's process-wide module hooks are on, so that nothing is ever attached to the
model itself (it pickles, copies and compiles as before); between measured steps they are off. A forward hook reduces a
layer's output to numbers at once, a hook on the output tensor does the same to its gradient, and when the backward pass
has ended (after DDP's reduction, before clipping) all parameter gradients are read in one call.
"""

from __future__ import annotations

import functools
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from time import perf_counter
from typing import Any, Self
from weakref import WeakSet, ref

import torch
from torch import Tensor, nn
from torch._C._functorch import maybe_current_level  # by torch.func's transforms
from torch.autograd.variable import Variable
from torch.compiler import is_compiling, is_dynamo_compiling
from torch.jit import is_tracing  # pyright: ignore[reportPrivateImportUsage]
from torch.nn.modules import module as torch_module
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle, unserializable_hook

from nnvis.errors import tell
from nnvis.probe.formulas import Owners
from nnvis.probe.histograms import SAMPLE_SIZE, Sample
from nnvis.probe.layers import Layer, find_layers, first_tensor, is_compiled, is_wrapped, is_wrapper, unit_dim
from nnvis.probe.measuring import Pending, Scales, measurements
from nnvis.probe.parameters import Before, ParameterReadings, gradient_values
from nnvis.probe.readings import (
    CallKey,
    CallReading,
    ForwardPass,
    Gradient,
    Recomputed,
    nonfinite_among,
    pooled,
    read_gradient,
    read_output,
    samples_of,
)
from nnvis.probe.statistics import NONFINITE, Number, looking_is_free
from nnvis.probe.wiring import Wiring, find_fed
from nnvis.record.vocabulary import ABSENCE_REASONS, LayerInfo, Measurement

Write = Callable[[Measurement], None]
_MOST_NUMBERS = 2**16  # of pending steps
_MOST_ON_DEVICE = 16  # steps
_LONGEST_WAIT_S = 1.0
_Arrived = tuple[ForwardPass, CallReading, Gradient, tuple[Sample, ...]]
_RECENT = 8  # measured steps that are remembered
_HOOKED_STEP = Optimizer.profile_hook_step(lambda: None).__code__  # what torch wraps each class's `step` in


def _spares_the_training(method: Callable[..., Any]) -> Callable[..., None]:
    """Time a hook, and turn whatever goes wrong in it into one warning and the end of the probe."""

    @functools.wraps(method)
    def hook(self: Probe, *args: Any) -> None:
        if self.failure or is_dynamo_compiling():  # the graph of a module that is called like this one stays whole
            return
        started = perf_counter()
        try:
            method(self, *args)
        except Exception as error:
            self.fail(error)
        finally:
            self.seconds += perf_counter() - started

    return hook


def _spares_the_training_quickly(method: Callable[..., Any]) -> Callable[..., None]:
    """The same for hooks of each layer, which get four arguments: Python calls with `*args` more slowly."""

    @functools.wraps(method)
    def hook(self: Probe, one: Any, two: Any, three: Any, four: Any) -> None:
        if self.failure or is_dynamo_compiling():
            return
        started = perf_counter()
        try:
            method(self, one, two, three, four)
        except Exception as error:
            self.fail(error)
        finally:
            self.seconds += perf_counter() - started

    return hook


class Probe:
    """Measures `model` at every `every`-th optimizer step and hands each `Measurement` to `write`.

    `every` can be a function as well: asked once a step, whether to measure it. A step ends with the first of the
    `optimizers` (without any, with `end_step()`); it is numbered by the updates completed before it, counted from
    `first_step`. `layers` are globs over `named_modules()` names, or types. Histograms are added at the first measured
    step and then whenever `histogram_every` steps have passed. A `scaler` (torch.amp.GradScaler) is read, never
    touched: all gradients are recorded at their true scale. `spoilt` is handed what was measured of a forward pass that
    held NaN or Inf, as soon as it has ended: perhaps it is never backpropagated, and then no `write` tells of it.
    `may_be_wrapped`: whether somebody may hold a `torch.compile`d wrapper of a part; to look for one takes 0.1 s.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        *,
        write: Write,
        every: int | Callable[[int], bool] = 10,
        layers: Sequence[str | type[nn.Module]] = ("*",),
        histograms: bool = True,
        histogram_every: int = 100,
        first_step: int = 0,
        scaler: torch.amp.GradScaler | None = None,
        spoilt: Write | None = None,
        may_be_wrapped: bool = True,
    ) -> None:
        self.seconds = 0.0  # spent inside the probe
        self.failure = ""  # at which step it stopped before its time, and why
        self.steps_measured = 0
        self.step = self._first_step = first_step  # updates completed
        self._model = model
        self._patterns = layers
        self._find_layers()
        self._compiled, self._may_be_wrapped = is_compiled(self._parts), may_be_wrapped
        self._optimizers = list(optimizers)
        self._measures = every if callable(every) else lambda step: step % every == 0
        self._last_histogram: int | None = None
        self._histograms, self._histogram_every = histograms, histogram_every
        self._scaler = scaler
        self._write, self._spoilt = write, spoilt
        self._rows: dict[str, LayerInfo] = {}  # in the order in which they first ran
        self._row_layers: dict[str, Layer] = {}
        self.recent: deque[Measurement] = deque(maxlen=_RECENT)  # what was measured last
        self._fed: dict[CallKey, set[CallKey]] = {}  # by call, those that it read
        self._wired: set[CallKey] = set()  # those of which that is known
        self._wiring, self._wiring_of = Wiring(), (0, 0)  # made of so many rows and calls
        self._wires = True  # whether the next pass is to find it out
        self._in_place: set[nn.Module] = set()  # the user's own that return what they are given
        self._by_parameters = True  # whether a backward pass may reach parameters and no layer's output: a penalty's
        self._current: _Step | None = None
        self._pending: list[Pending] = []
        self._flush_by = math.inf  # on the monotonic clock
        self._idle_until = -1  # steps before this one need no more than to be counted
        self._handles: list[RemovableHandle] = []
        self._paused = False
        self._every = every

    def _find_layers(self) -> None:
        """The parameters and layers that the model has at present."""
        self._changed = False  # whether it has got others since
        self._parameters = list(self._model.parameters())
        self._positions = {id(p): position for position, p in enumerate(self._parameters)}
        self._before: dict[tuple[int, ...], Before] = {}
        self._calls: list[CallKey] = []  # of the last measured step, if each was a row and in their order
        self._layers = find_layers(self._model, self._patterns)
        self._sample_sizes = {
            self._positions[id(p)]: math.ceil(
                SAMPLE_SIZE * p.numel() / max(1, sum(q.numel() for q in layer.parameters))
            )
            for layer in self._layers
            for p in layer.parameters
        }
        self._by_module = {layer.module: layer for layer in self._layers}
        self._parts = set(self._model.modules())
        self._owners: Owners | None = None  # until a layer is seen for the first time

    def __enter__(self) -> Self:
        for optimizer in self._optimizers:
            self._handles.append(optimizer.register_step_pre_hook(self._before_update))
            self._handles.append(optimizer.register_step_post_hook(self._after_update))
        if not self._compiled and self._may_be_wrapped:
            self._compiled = is_wrapped(self._parts)
        self._handles.append(register_module_module_registration_hook(self._became_part))
        self._handles.append(register_module_parameter_registration_hook(self._got_parameter))
        self._begin_step()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Take every hook away and hand over what is pending. Can be called twice."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._flush_last()
        self._end_step()
        self._before.clear()
        _tidy(self._parameters)

    def fail(self, error: Exception) -> None:
        """Stop for good, with a warning: nothing that goes wrong in here ends a training.

        The hooks that last do nothing from now on, and stay until `close`: torch may be going through them.
        """
        if self.failure:
            return
        what = f"{type(error).__name__}: {error}"
        self.failure = f"step {self.step}: {what}"
        self._spoilt, self._idle_until = None, -1
        with suppress(Exception):
            self.flush()  # steps that were measured as a whole
        self._pending = []
        self._end_step()
        self._before.clear()
        tell(f"nnvis stops measuring, training goes on: {what}", stacklevel=4)

    @_spares_the_training
    def _flush_last(self) -> None:
        self.flush()
        if self._current is not None and self._current.last_pass is not None:
            self._look_for_nonfinite(self._current.last_pass, wait=True)

    @property
    def measuring(self) -> bool:
        """Whether the step in progress is a measured one."""
        return self._current is not None

    @property
    def passed_forward(self) -> bool:
        """Whether the step in progress is measured and has had a forward pass."""
        return self._current is not None and bool(self._current.last_pass or self._current.backward_passes)

    @property
    def backpropagated(self) -> bool:
        """Whether the step in progress is measured and has had a backward pass."""
        return self._current is not None and self._current.backward_passes > 0

    def flush(self) -> None:
        """Hand over the measured steps that still wait for it."""
        pending, self._pending = self._pending, []
        for measurement in measurements(pending):
            self.recent.append(measurement)
            self._by_parameters |= "clip_factor" not in measurement.scalars
            self._write(measurement)
        self._flush_by = math.inf

    def _flush_if_due(self) -> None:
        """Many steps are handed over at a time, which is quicker than one by one: the code stays in the caches."""
        if not self._pending:
            return
        steps, last = len(self._pending), self._pending[-1]
        many = steps * last.layout.ends[-1] >= _MOST_NUMBERS or (last.on_device and steps >= _MOST_ON_DEVICE)
        if many or time.monotonic() > self._flush_by:
            self.flush()

    def pause(self) -> AbstractContextManager[None]:
        """While inside, nothing is measured: for passes that are no training (passes without gradients never are)."""
        return _Paused(self)

    def log(self, scalars: Mapping[str, float | Tensor]) -> None:
        """Add scalars to the step in progress, by tag; ignored where that step is not measured."""
        if self._current is not None:
            self._current.scalars.update({tag: _detached(value) for tag, value in scalars.items()})

    @property
    def network(self) -> tuple[LayerInfo, ...]:
        """The layer calls that were seen, in the order in which they first ran."""
        return tuple(self._rows.values())

    @property
    def unseen(self) -> dict[str, str]:
        """Layers whose output or whose parameters' gradients the last measured step could not read, and why."""
        if not self.recent:
            return {layer.name: "not called" for layer in self._layers} if self.step > self._first_step else {}
        ran = {layer.name for layer in self._row_layers.values()}
        never = "compiled" if self._compiled else "not called"
        unseen = {layer.name: never for layer in self._layers if layer.name not in ran}
        for quantity in ("activation_mean", "grad_norm"):
            if quantity in self.recent[-1].layers:
                column = self.recent[-1].layers[quantity]
                codes = zip(column.layers, column.reason_codes, strict=True)
                unseen |= {name: ABSENCE_REASONS[code] for name, code in codes if code and name not in unseen}
        return unseen

    @property
    def wiring(self) -> Wiring:
        """Which rows read which, as far as it is known."""
        known = len(self._rows), len(self._wired)
        if known != self._wiring_of:
            named = {call: f"{call[0]}#{call[1]}" for call in self._fed}
            rows = {call: name if name in self._rows else call[0] for call, name in named.items()}
            self._wiring, self._wiring_of = Wiring.of(self._fed, self._layers, rows), known
        return self._wiring

    # ------------------------------------------------------------ a step

    def _begin_step(self) -> None:
        if not self._measures(self.step):
            if not callable(self._every):
                self._idle_until = self.step - self.step % self._every + self._every - 1
            return
        if self._changed:
            self._find_layers()
            self._compiled = self._compiled or is_compiled(self._parts)
        self._compiled = self._compiled or any(part._compiled_call_impl is not None for part in self._parts)
        due = self._histograms and self._histogram_is_due()
        parameters = ParameterReadings(self._parameters, self._sample_sizes, self._before)
        self._current = _Step(parameters, histogram=due)
        self._hook(self._current)

    def _hook(self, step: _Step) -> None:
        """Forward hooks on all modules; of what is compiled, whose graph they would break, hooks on the parameters.

        Those tell of the gradient of a penalty, too: the first time it is looked whether there is one.
        """
        by_layers = self._layers and not self._compiled
        if by_layers:
            step.handles.append(register_module_forward_pre_hook(self._before_forward))
            step.handles.append(_hook_with_keywords(self._after_forward))
        if self._by_parameters or not by_layers:
            step.by_parameters = False
            step.hooked = [p for p in self._parameters if p.requires_grad]
            step.handles += [p.register_hook(self._parameter_gradient_arrives) for p in step.hooked]

    @_spares_the_training
    def _became_part(self, module: nn.Module, name: str, part: nn.Module | None) -> None:
        """While watched, the model got a part, or it or a part of it was handed to `torch.compile`."""
        self._changed |= module in self._parts
        if not self._compiled and is_wrapper(module) and part in self._parts:
            self._compiled = True
            if self._current is not None and self._current.last_pass is None:
                self._current.unhook()
                self._hook(self._current)

    @_spares_the_training
    def _got_parameter(self, module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        """By `load_state_dict(assign=True)`, say."""
        self._changed |= module in self._parts

    def _find_again(self, step: _Step) -> None:
        """As a forward pass begins: a step in which others were measured already is let go."""
        if step.last_pass is not None:
            self._end_step()
            return
        self._find_layers()
        step.parameters = ParameterReadings(self._parameters, self._sample_sizes, self._before)
        step.by_parameters = None  # new ones were not looked at

    def _end_step(self) -> None:
        if self._current is not None:
            self._current.unhook()
            _tidy(self._current.hooked)
            self._current.parameters.let_go()
            if self._current.backward_passes and self._current.by_parameters is not None:
                self._by_parameters = self._current.by_parameters
            self._current = None

    def _histogram_is_due(self) -> bool:
        if not callable(self._every):  # the same steps after resuming
            measured_steps_between = math.ceil(self._histogram_every / self._every)
            return (self.step // self._every) % measured_steps_between == 0
        if self._last_histogram is not None and self.step - self._last_histogram < self._histogram_every:
            return False
        self._last_histogram = self.step
        return True

    def _before_update(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self._current is not None:
            self._read_before_update(optimizer, args, kwargs)

    @_spares_the_training
    def _read_before_update(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self._current is not None and not is_inner_step(optimizer):
            self._current.forget_failed_backward()
            owned = [id(p) for group in optimizer.param_groups for p in group["params"]]
            positions = [self._positions[p] for p in owned if p in self._positions]
            if self._current.awaits_end_of_backward:
                self._current.parameters.read_gradients_of(positions, histogram=self._current.histogram)
            self._current.parameters.before_update(positions, gradients_are_there=not _has_closure(args, kwargs))
            self._current.optimizer_scale = getattr(optimizer, "grad_scale", None)  # a fused optimizer unscales inside

    def _after_update(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self._is_idle(optimizer):
            self.step += 1
        else:
            self._end_update(optimizer, args, kwargs)

    def _is_idle(self, optimizer: Optimizer) -> bool:
        """Whether a step between measured ones needs no more than to be counted, told as quickly as can be."""
        return (
            not is_compiling()
            and self.step < self._idle_until
            and optimizer is self._optimizers[0]
            and time.monotonic() < self._flush_by
            and getattr(optimizer, "found_inf", None) is None
            and not _has_inner_step(type(optimizer))
        )

    @_spares_the_training
    def _end_update(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if is_inner_step(optimizer):
            return
        if self._current is not None:
            self._current.parameters.after_update(gradients_came=_has_closure(args, kwargs))
        if optimizer is not self._optimizers[0]:
            return
        if self._current is not None and self._current.awaits_end_of_backward:
            self._current.updated = True
            return
        if _was_skipped(optimizer):
            self._end_step()
            self._begin_step()
        else:
            self._count_step()

    @_spares_the_training
    def end_step(self) -> None:
        """Says that the parameters have been updated, where no optimizer was given that would tell."""
        if self._current is not None:
            self._current.parameters.after_update()
        self._count_step()

    def _count_step(self) -> None:
        self._flush_if_due()
        if self._current is not None and self._current.backward_passes:
            self._pending.append(self._conclude(self._current))
            self._by_parameters |= self._pending[-1].gradients_grew
            self._flush_by = min(self._flush_by, time.monotonic() + _LONGEST_WAIT_S)
            if not self._pending[-1].under_way:
                self._flush_if_due()
            self.steps_measured += 1
        self._end_step()
        self.step += 1
        self._begin_step()

    def _conclude(self, step: _Step) -> Pending:
        """All that was read of a step, as quantities."""
        step.forget_unmatched()
        rows = self._rows_of(pooled(sorted(step.backpropagated, key=lambda one: one.number)))
        scales = Scales(_scale_of(self._scaler), 1.0 if step.optimizer_scale is None else step.optimizer_scale)
        before = self._pending[-1] if self._pending else None
        return Pending(self.step, rows, self._owners_in_order(), step.parameters, scales, step.scalars, before)

    def _rows_of(self, readings: dict[CallKey, CallReading]) -> dict[str, CallReading]:
        """By row name, in the order of the rows."""
        if readings and [*readings] == self._calls:  # as at the last measured step
            return dict(zip(self._rows, readings.values(), strict=True))
        called_again = {name for name, call in readings if call > 1}
        named = {f"{name}#{call}" if name in called_again else name: r for (name, call), r in readings.items()}
        for name, reading in named.items():
            if self._row_layers.get(name) is not reading.layer:
                self._rows[name] = _layer_info(name, reading)
                self._row_layers[name] = reading.layer
                self._owners = None
        self._calls = [*readings] if [*named] == [*self._rows] else []
        rows = self._row_layers.items()
        return {name: named.get(name) or CallReading.absent(layer, "not called") for name, layer in rows}

    def _owners_in_order(self) -> Owners:
        """The layers that own parameters, in the order in which they first ran; those that never ran come last."""
        if self._owners is None:
            order = {name.split("#")[0]: place for place, name in reversed(list(enumerate(self._rows)))}
            owners = [layer for layer in self._layers if layer.parameters]
            owners.sort(key=lambda layer: order.get(layer.name, len(order)))
            self._owners = Owners(owners, self._positions)
        return self._owners

    # ------------------------------------------------------------ hooks of a measured step

    def _before_forward(self, module: nn.Module, inputs: Any) -> None:
        if is_dynamo_compiling():
            return
        step = self._current
        if step is None or self._paused:
            return
        if step.open_pass is None or module is self._model:
            self._begin_pass(step, module)
        if self._in_place and module in self._in_place:
            self._look_at_inputs(module, inputs)

    @_spares_the_training
    def _begin_pass(self, step: _Step, module: nn.Module) -> None:
        """Of the model; or of its parts, by a loop that calls those and never the model."""
        is_root = module is self._model
        if is_root and step.open_pass is not None and not step.open_pass.of_parts and _is_running(module):
            step.open_pass.recursion += 1
        elif (is_root or module in self._parts) and torch.is_grad_enabled():
            if is_compiling() or is_tracing() or maybe_current_level() is not None:  # no training
                step.open_pass = None
                return
            step.forget_failed_backward()
            if self._changed:
                self._find_again(step)
            if self._current is None:
                return
            again = torch._C._current_graph_task_id() != -1  # activation checkpointing, of the whole model
            if not again or (is_root and (step.last_pass is None or step.last_pass.again)):  # else it has been read
                step.begin_pass(again=again, of_parts=not is_root)

    @_spares_the_training
    def _look_at_inputs(self, module: nn.Module, inputs: Any) -> None:
        """Of a layer that will leave nothing of them."""
        if self._current is not None and self._current.open_pass is not None and not is_compiling():
            self._current.open_pass.inputs_nonfinite[module] = nonfinite_among(inputs)

    @_spares_the_training_quickly
    def _after_forward(self, module: nn.Module, inputs: Any, keywords: Any, output: Any) -> None:
        step = self._current
        if step is None or self._paused:
            return
        if type(output) is not Tensor and is_compiling():  # a part is being exported: it runs as it does otherwise
            return
        forward_pass = step.open_pass
        recomputed = forward_pass is None or forward_pass.of_parts
        recomputed = recomputed and torch._C._current_graph_task_id() != -1  # activation checkpointing
        if recomputed:
            forward_pass = step.last_pass
        if forward_pass is None:
            return
        layer = self._by_module.get(module)
        forward_pass.unit_dim = unit_dim(module, output, forward_pass.unit_dim)
        if layer is not None:
            tensor = output if type(output) is Tensor else first_tensor(output)
            if recomputed:
                self._read_recomputed(step, forward_pass, layer, tensor)
                return
            if forward_pass.of_parts and not torch.is_grad_enabled():  # an evaluation in between
                return
            reading = read_output(layer, tensor, forward_pass.unit_dim)
            if reading.spoilt or forward_pass.inputs_nonfinite:
                forward_pass.read_inputs(module, reading, (inputs, keywords))
            if step.histogram and tensor is not None and not reading.absence:
                reading.samples = samples_of(tensor)
            calls = forward_pass.calls[layer.name] = forward_pass.calls.get(layer.name, 0) + 1
            call = layer.name, calls
            forward_pass.readings[call] = reading
            if tensor is not None and tensor.requires_grad and not reading.absence:
                reading.followed = True
                forward_pass.hook(tensor, partial(self._output_gradient_arrived, step, forward_pass, reading))
            if self._wires:
                find_fed(call, tensor, self._fed)
                if inputs and tensor is inputs[0] and not type(module).__module__.startswith("torch.nn."):
                    self._in_place.add(module)  # torch's own make no NaN of finite inputs in place
        if module is self._model and not recomputed:
            if forward_pass.recursion:
                forward_pass.recursion -= 1
            else:
                self._end_pass(step, forward_pass)

    def _end_pass(self, step: _Step, forward_pass: ForwardPass) -> None:
        step.open_pass = None
        if self._wires:
            self._wired |= forward_pass.readings.keys()
        self._wires = not forward_pass.readings.keys() <= self._wired
        self._look_for_nonfinite(forward_pass)

    def _look_for_nonfinite(self, forward_pass: ForwardPass, *, wait: bool = False) -> None:
        """Tell of NaN and Inf among what a pass put out, once. On a device that has to be waited for."""
        if self._spoilt is None or forward_pass.backpropagated:
            return
        counts = [reading.sums[NONFINITE] for reading in forward_pass.readings.values() if reading.spoilt]
        if not any(count for count in counts if wait or not isinstance(count, Tensor)):
            return
        self.flush()  # what came before is told before
        tell, self._spoilt = self._spoilt, None
        read = ParameterReadings(self._parameters, {})
        read.before_update(range(len(self._parameters)))
        rows = self._rows_of(forward_pass.readings)
        for measurement in measurements([Pending(self.step, rows, self._owners_in_order(), read, Scales(), {})]):
            tell(measurement)

    def _read_recomputed(self, step: _Step, forward_pass: ForwardPass, layer: Layer, output: Tensor | None) -> None:
        """The output was read when it was first computed; if that was without a graph, its gradient comes here."""
        if not forward_pass.unfollowed(layer.name):
            return
        node = torch._C._current_autograd_node()
        if step.segment_of is not node:
            step.segment_of, step.segment = node, []
        call = Recomputed(layer.name, followed=output is not None and output.requires_grad)
        step.segment.append(call)
        if output is not None and call.followed:
            hook = partial(self._recomputed_gradient_arrived, step, forward_pass, step.segment, call)
            forward_pass.hook(output, hook)

    @_spares_the_training_quickly
    def _output_gradient_arrived(
        self, step: _Step, forward_pass: ForwardPass, reading: CallReading, gradient: Tensor
    ) -> None:
        if not step.awaits_end_of_backward:
            self._backward_begins(step)
        samples = samples_of(gradient) if step.histogram else ()
        step.arrived.append((forward_pass, reading, read_gradient(gradient), samples))

    @_spares_the_training
    def _recomputed_gradient_arrived(
        self, step: _Step, forward_pass: ForwardPass, segment: list[Recomputed], call: Recomputed, gradient: Tensor
    ) -> None:
        if segment:  # by now it has been recomputed as a whole
            step.match(forward_pass, segment)
        if call.reading is not None:
            if not step.awaits_end_of_backward:
                self._backward_begins(step)
            samples = samples_of(gradient) if step.histogram else ()
            step.arrived.append((forward_pass, call.reading, read_gradient(gradient), samples))

    def _gradients_were_cleared(self, step: _Step) -> bool:
        """Whether what was backpropagated before is gone: to None or to 0, or GradScaler has ended that step.

        What an optimizer has used counts in any case. On a device values are not looked at.
        """
        if self._optimizers and step.parameters.clipped_norms:
            return False
        if step.scaler_updates != _updates_of(self._scaler):
            return True
        grads = [gradient_values(p.grad) for p in self._parameters if p.grad is not None]
        return not any(not looking_is_free(grad) or bool(grad.any()) for grad in grads)

    @unserializable_hook  # copies in other processes have none, and that is no cause for a warning
    @_spares_the_training
    def _parameter_gradient_arrives(self, gradient: Tensor) -> None:
        if self._current is not None and not self._current.awaits_end_of_backward:
            self._backward_begins(self._current)

    def _backward_begins(self, step: _Step) -> None:
        """From inside of a backward pass: ask to be called when the whole of it has ended, DDP's reduction too."""
        step.awaits_end_of_backward = True
        if step.backpropagated and self._gradients_were_cleared(step):
            step.forget()
        step.grads = [(grad, 0 if grad is None else grad._version) for grad in (p.grad for p in self._targets())]
        engine = Variable._execution_engine
        engine.queue_callback(lambda: engine.queue_callback(self._backward_ended))  # once more: DDP's comes first

    @_spares_the_training
    def _backward_ended(self) -> None:
        step = self._current
        if step is None:
            return
        arrived, step.arrived, step.awaits_end_of_backward = step.arrived, [], False
        accumulated, step.grads = step.updated or self._have_accumulated(step), []
        if not accumulated:  # torch.autograd.grad, say, for a gradient penalty or for adversarial examples
            return
        if arrived and step.open_pass is not None and step.open_pass.of_parts:
            self._end_pass(step, step.open_pass)
        step.backpropagate(arrived)
        step.backward_passes += 1
        if not arrived:
            step.by_parameters = True
        step.scaler_updates = _updates_of(self._scaler)
        if not self._optimizers:
            step.parameters.clipped_norms = {}
        step.parameters.read_gradients(histogram=step.histogram)
        if not self._optimizers:
            step.parameters.before_update(range(len(self._parameters)))
        if step.updated:
            self._count_step()

    def _targets(self) -> list[Tensor]:
        """What a training may want gradients of: parameters, and what else optimizers have (prompts, images)."""
        updated = [p for optimizer in self._optimizers for group in optimizer.param_groups for p in group["params"]]
        return [*self._parameters, *(p for p in updated if id(p) not in self._positions)]

    def _have_accumulated(self, step: _Step) -> bool:
        """Whether a backward pass has changed a `.grad`, or there is none that it could."""
        now = ((p.grad, before, version) for p, (before, version) in zip(self._targets(), step.grads, strict=False))
        if any(grad is not None and (grad is not before or grad._version != version) for grad, before, version in now):
            return True
        return bool(step.recomputed) or not any(p.requires_grad for p in self._targets())


class NullProbe(AbstractContextManager["NullProbe"]):
    """Stands in for a `Probe` where nothing is measured."""

    seconds = 0.0
    steps_measured = step = 0
    failure = ""
    recent: Sequence[Measurement] = ()
    wiring = Wiring()
    network: tuple[LayerInfo, ...] = ()

    @property
    def unseen(self) -> dict[str, str]:
        return {}

    def __exit__(self, *exception: object) -> None:
        pass

    def close(self) -> None:
        pass

    def flush(self) -> None:
        pass

    def pause(self) -> AbstractContextManager[None]:
        return nullcontext()

    def log(self, scalars: Mapping[str, float | Tensor]) -> None:
        pass


class _Step:
    """What a measured step in progress has seen so far."""

    def __init__(self, parameters: ParameterReadings, *, histogram: bool) -> None:
        self.histogram = histogram
        # A pass lives while its graph does, whose hooks hold it: those that nobody backpropagates do not pile up.
        self.passes: WeakSet[ForwardPass] = WeakSet()
        self.backpropagated: list[ForwardPass] = []
        self.last_pass: ForwardPass | None = None
        self.open_pass: ForwardPass | None = None  # that one, while it runs
        self.parameters = parameters
        self.scalars: dict[str, Number] = {}
        self.handles: list[RemovableHandle] = []
        self.hooked: Sequence[nn.Parameter] = ()
        self.backward_passes = 0
        self.scaler_updates = 0  # when the backward pass ended
        self.awaits_end_of_backward = False
        self.optimizer_scale: Tensor | None = None
        self.arrived: list[_Arrived] = []  # in the backward pass in progress
        self.grads: list[tuple[Tensor | None, int]] = []  # and their versions, when it began
        self.updated = False  # whether the optimizer that ends the step did so within the backward pass
        self.by_parameters: bool | None = None  # whether one has reached parameters and no output; None: not looked
        self.segment: list[Recomputed] = []  # what checkpointing recomputes at present, for a node of the graph
        self.segment_of: Any = None
        self.recomputed: set[str] = set()  # layers whose gradients come from there

    def begin_pass(self, *, again: bool, of_parts: bool) -> None:
        number = self.last_pass.number + 1 if self.last_pass else 0
        self.open_pass = self.last_pass = ForwardPass(number, again, of_parts)
        self.passes.add(self.open_pass)

    def unhook(self) -> None:
        for handle in self.handles:
            handle.remove()
        for forward_pass in self.passes:
            forward_pass.unhook()

    def forget_failed_backward(self) -> None:
        """Of a backward pass that raises nobody is told the end."""
        if self.awaits_end_of_backward and torch._C._current_graph_task_id() == -1:
            self.awaits_end_of_backward, self.arrived, self.grads = False, [], []

    def backpropagate(self, arrived: list[_Arrived]) -> None:
        """What a backward pass has brought belongs to this step, and the forward passes that it went through."""
        for forward_pass, reading, gradient, samples in arrived:
            if not forward_pass.backpropagated:
                forward_pass.backpropagated = True
                self.backpropagated.append(forward_pass)
            reading.gradient_arrived(gradient, samples)

    def match(self, forward_pass: ForwardPass, segment: list[Recomputed]) -> None:
        """Find the first calls of a recomputed segment: the newest that are left, since segments run backwards."""
        for name in {call.name for call in segment}:
            calls = [call for call in segment if call.name == name]
            candidates = [one for one in self.passes if one is self.last_pass or not one.backpropagated]
            left = [(one, readings) for one in candidates if (readings := one.unfollowed(name))]
            if [one for one, _ in left] == [forward_pass] and len(calls) <= len(left[0][1]):
                for call, call.reading in zip(calls, left[0][1][-len(calls) :], strict=True):
                    call.reading.followed = call.followed
                self.recomputed.add(name)
            else:
                for _, readings in left:
                    for reading in readings:
                        reading.lose_gradient("recomputed")
        segment.clear()

    def forget_unmatched(self) -> None:
        """Where a call has not been recomputed, others may have been taken for it."""
        for forward_pass in self.backpropagated if self.recomputed else ():
            for name in self.recomputed:
                if forward_pass.unfollowed(name):
                    for (layer, _), reading in forward_pass.readings.items():
                        if layer == name:
                            reading.lose_gradient("recomputed")

    def forget(self) -> None:
        """Gradients were cleared: what was backpropagated is not part of this step (a skipped one, say)."""
        for forward_pass in self.backpropagated:
            forward_pass.backpropagated = False
            for reading in forward_pass.readings.values():
                reading.lose_gradient("")
        self.backpropagated = []
        self.parameters.forget_gradients()


class _Paused:
    """While entered, a probe measures nothing."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe

    def __enter__(self) -> None:
        self._probe._paused = True

    def __exit__(self, *exception: object) -> None:
        self._probe._paused = False


def _tidy(parameters: Iterable[nn.Parameter]) -> None:
    """Where hooks were, torch leaves empty dicts, which take 1 µs of each parameter in each backward pass."""
    for parameter in parameters:
        if parameter._backward_hooks is not None and not parameter._backward_hooks:
            parameter._backward_hooks = None


def _is_running(module: nn.Module) -> bool:
    """Whether a module that is being called is so within a call of itself; else that one has ended with an error."""
    frame, calls = sys._getframe(), 0
    while frame is not None:
        calls += frame.f_code is nn.Module._call_impl.__code__ and frame.f_locals.get("self") is module
        frame = frame.f_back
    return calls > 1


def _hook_with_keywords(hook: Callable[..., None]) -> RemovableHandle:
    """A forward hook on all modules, as (module, inputs, keywords, output)."""
    handle = register_module_forward_hook(hook, with_kwargs=True)
    handle.extra_dict_ref += (ref(torch_module._global_forward_hooks_with_kwargs),)  # torch 2.13 leaves an entry there
    return handle


def _layer_info(name: str, reading: CallReading) -> LayerInfo:
    parameters = reading.layer.parameters
    return LayerInfo(
        name=name,
        kind=reading.layer.kind,
        output_shape=None if reading.shape is None else tuple(reading.shape[1:]),
        parameters=sum(p.numel() for p in parameters),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        group="nonlinearity" if reading.layer.nonlinearity else "",
    )


def is_inner_step(optimizer: Optimizer) -> bool:
    """Whether the hook that asks runs in a `step` that a subclass's `step` has called: torch hooks both."""
    if not _has_inner_step(type(optimizer)):
        return False
    depth, frame = 0, sys._getframe()
    while frame is not None:
        depth += frame.f_code is _HOOKED_STEP and frame.f_locals.get("self") is optimizer
        frame = frame.f_back
    return depth > 1


@functools.cache
def _has_inner_step(kind: type[Optimizer]) -> bool:
    """Whether a class has a `step` of its own and inherits another one."""
    return sum("step" in vars(base) for base in kind.__mro__ if base is not Optimizer) > 1


def _has_closure(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether `optimizer.step` was given a closure, so that it runs the backward pass itself."""
    return (args[1] if len(args) > 1 else kwargs.get("closure")) is not None


def _was_skipped(optimizer: Optimizer) -> bool:
    """Whether a fused optimizer's step did nothing, since GradScaler had found an overflow. Waits for the device."""
    found_inf = getattr(optimizer, "found_inf", None)
    return found_inf is not None and bool(found_inf)


def _updates_of(scaler: torch.amp.GradScaler | None) -> int:
    """How often a GradScaler has been updated, which ends its step, skipped or not."""
    return 0 if scaler is None or scaler._scale is None else scaler._scale._version


def _scale_of(scaler: torch.amp.GradScaler | None) -> Number:
    """What a GradScaler multiplies the loss by at present."""
    return 1.0 if scaler is None or not scaler.is_enabled() or scaler._scale is None else scaler._scale.detach().clone()


def _detached(value: float | Tensor) -> Number:
    return value.detach().clone() if isinstance(value, Tensor) else value
