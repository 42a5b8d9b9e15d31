"""The other joint: somebody else's model and loop, measured.

with watch(model, optimizer, log_dir="runs/mine") as probe:
    for inputs, targets in loader:
        loss = criterion(model(inputs), targets)
        loss.backward()
        optimizer.step()                 # ends a step
        optimizer.zero_grad()
        probe.log(loss=loss)             # optional

run = nnvis.load_run("runs/mine")        # while it trains, too
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from nnvis.errors import InputError, tell
from nnvis.probe import FirstNonfinite, NullProbe, Probe, coverage, first_nonfinite, growth, history
from nnvis.probe.checks import Checker, Rows
from nnvis.probe.layers import find_layers
from nnvis.probe.probe import is_inner_step
from nnvis.probe.schedule import Schedule
from nnvis.record import Check, EventLog, Finding, Measurement, load_run, read_json, write_json
from nnvis.record.log import OWN_TAGS
from nnvis.record.reader import event_files
from nnvis.record.snapshot import Snapshot
from nnvis.record.summary import run_summary
from nnvis.training.examination import Examination
from nnvis.training.run_directory import environment

TAGS = {
    "loss": "loss/train",
    "accuracy": "accuracy/train",
    "val_loss": "loss/val",
    "val_accuracy": "accuracy/val",
}
"""Names that `log` knows, and the tags they become; any other name is a tag as it is."""
DEFAULT_BUDGET = 0.02
_OURS = ("grad_norm/total", "clip_factor", "gradient_band/min", "gradient_band/median", "gradient_band/max")
_LEAST_SCALE, _TIMES = 1 / 64, 3  # GradScalers are at 65,536 first; a loop's own averages divide by less
_LONGEST_WAIT_S = 1.0  # for scalars, until they are written


def watch(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    *,
    log_dir: str | Path,
    every: int | Callable[[int], bool] | Literal["auto"] = 10,
    layers: str | type[nn.Module] | Sequence[str | type[nn.Module]] = "*",
    histograms: bool = True,
    budget: float | None = None,
    scaler: torch.amp.GradScaler | None = None,
    loss_fn: Callable[[Any, Any], Tensor] | None = None,
    probe_data: tuple[Any, Any] | None = None,
    val_data: tuple[Any, Any] | None = None,
    resume: bool = False,
) -> Watch:
    """Measure `model` while your own loop trains it; what is measured goes to a TensorBoard log in `log_dir`.

    A step ends with `optimizer.step()`, of several optimizers with the first one's; without an optimizer, with
    `probe.step()`. `every`: steps between measured steps; a function of the step's number; or "auto", which spaces them
    so that the probe's own time stays within `budget` (0.02: 2%) of the whole. `layers`: globs over `named_modules()`
    names, or types. `scaler`: your GradScaler, so that gradients are told at their true scale. `resume` goes on with
    the run in `log_dir`. Under DistributedDataParallel the first process alone measures and writes.

    `loss_fn(outputs, targets)` and `probe_data`, (inputs, targets) of some training rows, let the diagnosis judge what
    a loop alone does not show: at step 0 and at times later the model runs on up to 1024 of these rows, on the side.
    `val_data` are rows that it is not trained on. A tuple or dict of inputs is spread over the model's arguments.

    The training stays the same bit for bit, unless `loss_fn` is a plain function that keeps something between calls.
    Raises InputError for arguments that cannot be, and for a `log_dir` that holds a run already.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"watch: model should be a torch.nn.Module, got {type(model).__name__}")
    optimizers = _as_list(optimizer, Optimizer, "optimizer", "a torch.optim.Optimizer, or a list of them")
    patterns = _as_list(layers, (str, type), "layers", 'a glob like "encoder.*", a type like nn.Linear, or a list')
    if not isinstance(log_dir, str | os.PathLike):
        raise InputError(f"watch: log_dir should be a folder's path, got {type(log_dir).__name__}")
    if isinstance(every, bool) or not (every == "auto" or callable(every) or (isinstance(every, int) and every > 0)):
        raise InputError(f'watch: every should be a number of steps from 1 up, a function, or "auto", got {every!r}')
    if budget is not None and (every != "auto" or not 0 < budget < 1):
        raise InputError('watch: budget is a share of the time between 0 and 1, for every="auto"')
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise InputError("watch: the model has lazy layers that know no sizes yet; run one batch through it first")
    try:
        find_layers(model, patterns or ("*",))
    except InputError as error:
        raise InputError(str(error).replace("capture.layers", "watch: layers")) from None
    earlier = load_run(log_dir).checks if resume and event_files(Path(log_dir)) else ()
    checker = _checker(model, loss_fn, probe_data, val_data, earlier)
    if _rank() > 0:
        return Watch(NullProbe(), None)
    directory = Path(log_dir)
    log = EventLog.resume(directory) if resume and event_files(directory) else None
    summary = directory / "summary.json"
    first_step = log.last_step + 1 if log else 0
    if first_step and summary.exists():
        first_step = read_json(summary).get("steps", 0)
    if callable(every):
        every = functools.lru_cache(maxsize=1)(every)  # asked once a step
        try:
            every(first_step)
        except Exception as error:
            if log:
                log.close()
            raise InputError(f"watch: every({first_step}) raises {type(error).__name__}: {error}") from error
    log = log or EventLog.create(directory)
    recorder = _Recorder(log, optimizers, _device_of(model), first_step, checker, earlier, scaler is not None)
    schedule = _Budget(DEFAULT_BUDGET if budget is None else budget, recorder) if every == "auto" else every
    recorder.probe = Probe(
        model,
        optimizers,
        write=recorder.write,
        every=schedule,  # pyright: ignore[reportArgumentType]
        layers=patterns or ("*",),
        histograms=histograms,
        first_step=first_step,
        scaler=scaler,
        spoilt=recorder.look_for_nonfinite,
    )
    return Watch(recorder.probe, recorder)


class Watch(AbstractContextManager["Watch"]):
    """A network that is being watched. Made by `watch`; ends with its block, or with `close()`."""

    def __init__(self, probe: Probe | NullProbe, recorder: _Recorder | None) -> None:
        self._probe, self._recorder = probe, recorder
        if recorder:
            try:
                recorder.begin()
            except BaseException:
                recorder.abandon()
                raise
            self._let_go = weakref.finalize(self, recorder.let_go)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        self._end(error)

    def close(self) -> None:
        """End the watch: write what is pending and the summary, take every hook away. Can be called twice."""
        self._end(None)

    def log(self, step: int | None = None, /, **scalars: float | Tensor) -> None:
        """Add your own numbers: `loss`, `accuracy`, `val_loss`, `val_accuracy`, or any other name.

        They belong to the step in progress, or to the one that has just ended; `val_…` and `…/val`
        to the updates completed; all of them to `step` where it is given.
        """
        if self._recorder:
            self._recorder.add(scalars, step)

    def step(self) -> None:
        """End a step, where no optimizer was given that would tell."""
        if isinstance(self._probe, Probe):
            if self._recorder and self._recorder.optimizers:
                raise InputError("probe.step() is for a watch without an optimizer; here optimizer.step() ends a step")
            self._probe.end_step()
            if self._recorder:
                self._recorder.examine()

    def pause(self) -> AbstractContextManager[None]:
        """While inside, nothing is measured: for passes that are no training. Passes without gradients never are."""
        return self._probe.pause()

    def flush(self) -> None:
        """Write what is pending."""
        if self._recorder:
            self._recorder.flush()

    def snapshot(self) -> Snapshot:
        """The newest measured numbers as a table, for a notebook or a terminal."""
        self.flush()
        return Snapshot(self._recorder.newest if self._recorder else None, self._probe.network)

    @property
    def steps(self) -> int:
        """Optimizer steps completed, those before a resumed run's resuming included."""
        return self._probe.step

    @property
    def unseen(self) -> dict[str, str]:
        """Layers that could not be measured, and why."""
        self.flush()
        return self._probe.unseen

    @property
    def nonfinite(self) -> FirstNonfinite | None:
        """Where the first NaN or Inf came from; None while everything is finite."""
        self.flush()
        return self._recorder.nonfinite if self._recorder else None

    def _end(self, error: BaseException | None) -> None:
        if self._recorder:
            self._let_go.detach()
            self._recorder.conclude(error)


def _counted(method: Callable[..., None]) -> Callable[..., None]:
    """Its time is the probe's, as that of the hooks is."""

    @functools.wraps(method)
    def counted(self: _Recorder, *args: Any) -> None:
        began, before_s = time.perf_counter(), self.probe.seconds
        try:
            method(self, *args)
        finally:  # what was counted inside is not counted twice
            self.probe.seconds = before_s + time.perf_counter() - began

    return counted


class _Recorder:
    """Writes what the probe and the loop tell; a fault here warns once, stops the recording and spares the training."""

    probe: Probe

    def __init__(
        self,
        log: EventLog,
        optimizers: list[Optimizer],
        device: str,
        first_step: int,
        checker: Checker | None,
        earlier: Sequence[Check],
        scaler_known: bool,
    ) -> None:
        self.optimizers = optimizers
        self._examination = Examination(
            checker,
            Schedule(),
            log,
            earlier=earlier,
            tell=lambda _, text: print(f"nnvis: {text}", file=sys.stderr, flush=True),
            picture=self._picture,
        )
        self._first_step = first_step
        self.newest: Measurement | None = None
        self.nonfinite: FirstNonfinite | None = None
        self._log: EventLog | None = log
        self._directory, self._device = log.path.parent, device
        self._scalars: dict[int, dict[str, float | Tensor]] = {}  # by step, not yet written
        self._newest: dict[str, float] = {}
        self._after_update: dict[str, bool] = {}  # by tag: whether it is logged after the step that it belongs to
        self._coverage_told = self._layer_told = False
        self._own_lr = False  # whether the loop logs its own
        self._ended = False
        self._handed_over = self._clipped = self._divided = 0  # measured steps
        self._scaler_known = scaler_known
        self._kept: Any = None  # by what, if by nobody
        self._handles: list[RemovableHandle] = []
        self._process = os.getpid()
        self._began_s = self._flushed_s = time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began_s

    def begin(self) -> None:
        assert self._log is not None
        if self._log.last_step < 0:
            self._log.layout()
        self._log.flush()
        write_json(self._directory / "environment.json", environment(torch.device(self._device)))
        self.probe.__enter__()
        if self.optimizers:
            self._handles.append(self.optimizers[0].register_step_pre_hook(self._tell_learning_rate))
            if self._examination.checking:
                self._handles.append(self.optimizers[0].register_step_post_hook(self._examine_after))
        self.examine()

    @_counted
    def add(self, scalars: dict[str, float | Tensor], step: int | None = None) -> None:
        """Scalars by name, told between two steps or in one, if not of a given one."""
        if self._log is None:
            return
        if step is not None and not isinstance(step, Integral):
            raise InputError(
                f"probe.log: the step should be a number, got {type(step).__name__}; scalars go by name: loss=…"
            )
        for name, value in scalars.items():
            tag = TAGS.get(name, name)
            if tag in _OURS or tag.split("/")[0] in OWN_TAGS:
                raise InputError(f"probe.log: {tag} is measured by nnvis itself; give yours another name")
            number = _number(name, value)
            self._own_lr |= tag == "lr"
            belongs_to = self._step_of(tag, name) if step is None else step
            self._scalars.setdefault(belongs_to, {})[tag] = number
            here = not isinstance(number, Tensor) or number.is_cpu  # else it is looked at when it is written
            if tag == TAGS["loss"] and here and not math.isfinite(number):
                with self._sparing_the_training():
                    self._tell_loss(belongs_to)
        if time.monotonic() - self._flushed_s > _LONGEST_WAIT_S:
            self.flush()

    def _picture(self, finding: Finding) -> bytes | None:
        """Draws the figure of a finding that has just become certain, as PNG."""
        from nnvis.figures import draw_finding

        path = draw_finding(load_run(self._directory), finding, self._directory / "figures")
        return path.read_bytes() if path else None

    def examine(self, *, at_end: bool = False) -> None:
        """Look at the fixed rows, if that is due after as many updates as there have been."""
        if self._log is None:
            return
        with self._sparing_the_training(), self.probe.pause():
            self._examination.look(self.probe.step, at_end=at_end)

    def _examine_after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not is_inner_step(optimizer):
            self.examine()

    def _step_of(self, tag: str, name: str) -> int:
        """Whether a tag is told before or after the update, the first step and measured ones show for the others."""
        completed = self.probe.step
        if name.startswith("val_") or tag.endswith("/val"):
            return completed
        if completed == self._first_step:
            self._after_update[tag] = False
        elif self.probe.measuring:
            self._after_update[tag] = not self.probe.passed_forward
        return max(self._first_step, completed - self._after_update.get(tag, True))

    def write(self, measurement: Measurement) -> None:
        """What the probe has measured."""
        if self._log is None:
            return
        self.newest = measurement
        self._look_at_clipping(measurement.scalars.get("clip_factor"))
        try:
            self._log.network(self.probe.network, measurement.step)
            self._log.write(measurement)
            self.look_for_nonfinite(measurement)
        except Exception:  # the probe warns, and stops
            self._give_up()
            raise

    @_counted
    def flush(self) -> None:
        """Write what is pending, but not the scalars of the newest step, which may not be complete."""
        with self._sparing_the_training():
            self.probe.flush()
            self._write_scalars(before=self.probe.step - 1)

    @contextlib.contextmanager
    def _sparing_the_training(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._give_up()
            self.probe.fail(error)

    def let_go(self) -> None:
        """Nobody holds the watch any more, and nobody has closed it: the record ends, at the latest with the program.

        Where nothing has happened yet, `watch(...)` was a statement, and what it began goes on.
        """
        if os.getpid() != self._process:
            return
        if self.probe.step == self._first_step and not self.probe.passed_forward and not self._kept:
            self._kept = weakref.finalize(self, lambda recorder: recorder.let_go(), self)
            return
        interactive = hasattr(sys, "ps1")
        self.conclude(None if interactive else getattr(sys, "last_value", None))  # what ended the program, if that did

    def conclude(self, error: BaseException | None) -> None:
        """The end of the record."""
        unfinished = self.probe.backpropagated  # a step that did not end
        self.probe.close()
        for handle in self._handles:
            handle.remove()
        if self._ended:
            return
        self._ended = True
        if error is None:
            self.examine(at_end=True)
        if self.probe.failure:  # told already
            with contextlib.suppress(Exception):
                write_json(self._directory / "summary.json", self._summary(error))
        elif self._log is not None:
            if not self.probe.steps_measured and not error and (unfinished or self.probe.step > self._first_step):
                why = "no measured step had a pass through the model"
                if unfinished:
                    why = "no optimizer.step() was seen; inside of torch.compile use probe.step(), without an optimizer"
                tell(f"nnvis: nothing was measured: {why}", stacklevel=4)
            with _told_once("the end of the record could not be written"):
                self._write_scalars(before=None)
                self._log.flush()
                write_json(self._directory / "summary.json", self._summary(error))
                self._examination.conclude(self.probe.step)
                self._log.close()
        self._give_up()

    def _write_scalars(self, before: int | None) -> None:
        self._flushed_s = time.monotonic()
        for step in sorted(step for step in self._scalars if before is None or step < before):
            values = {tag: float(value) for tag, value in self._scalars.pop(step).items()}  # a device is waited for
            self._newest.update(values)
            if not math.isfinite(values.get(TAGS["loss"], 0.0)):
                self._tell_loss(step)
            if self._log is not None:
                self._log.scalars(step, values)

    def _look_at_clipping(self, factor: float | None) -> None:
        """How often gradients were clipped; and whether a GradScaler that nobody told of has divided them."""
        if factor is None:
            return
        self._handed_over += 1
        self._clipped += factor < 1 - 1e-4
        self._divided += factor <= _LEAST_SCALE and math.frexp(factor)[0] == 0.5
        if self._divided == _TIMES and not self._scaler_known:
            self._scaler_known = True
            tell(
                f"nnvis: at {_TIMES} steps the optimizer got gradients exactly {1 / factor:,.0f} times smaller than "
                "the backward pass left them; if a GradScaler did that, hand it over as watch(..., scaler=...): else "
                "gradients are told at its scale"
            )

    def abandon(self) -> None:
        """Where beginning has failed."""
        self.probe.close()
        for handle in self._handles:
            handle.remove()
        self._give_up()

    def _give_up(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            with contextlib.suppress(Exception):
                log.close()

    def _tell_learning_rate(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not self.probe.measuring or self._own_lr:
            return
        with self._sparing_the_training():
            if "lr" in optimizer.param_groups[0]:
                self.probe.log({"lr": optimizer.param_groups[0]["lr"]})

    def look_for_nonfinite(self, measurement: Measurement) -> None:
        """In what was measured of a step, or of a pass that may never be backpropagated."""
        if not self._layer_told and (found := first_nonfinite(measurement, self.probe.network, self.probe.wiring)):
            self._layer_told = True
            self._tell_nonfinite(found, measurement)
        self._tell_coverage()

    def _tell_loss(self, step: int) -> None:
        """The loop's own loss is not finite: tell it, unless a layer has shown it."""
        self.probe.flush()
        if self.nonfinite:
            return
        done = self.newest is not None and self.newest.step == step
        self._layer_told = done or (step == self.probe.step and self.probe.measuring)
        source = "operation" if self._layer_told else "unknown"  # a later step shows a layer
        self._tell_nonfinite(FirstNonfinite(step, "forward", "loss", source))

    def _tell_nonfinite(self, found: FirstNonfinite, measurement: Measurement | None = None) -> None:
        self.nonfinite = self.nonfinite or found
        recent = [one for one in self.probe.recent if one.step < found.step]
        finite = f"at step {recent[-1].step} everything measured was finite" if recent else ""
        recent += [measurement] if measurement else []
        past = growth(found.direction, found.layer, recent)
        text = "; ".join(filter(None, [f"no longer finite: {found}", past, finite]))
        tell(f"nnvis: {text}")
        if self._log is not None:
            self._log.text(found.step, "nonfinite", f"{text}\n\n{history(found.layer, recent)}")

    def _tell_coverage(self) -> None:
        if not self._coverage_told:
            self._coverage_told = True
            if unseen := self.probe.unseen:
                tell(f"nnvis: {coverage(unseen)}")

    def _summary(self, error: BaseException | None) -> dict[str, Any]:
        probe, elapsed = self.probe, self.elapsed
        metrics: dict[str, dict[str, float]] = {}
        for tag, value in self._newest.items():
            metric, _, split = tag.partition("/")
            if split in ("train", "val"):
                metrics.setdefault(split, {})[metric] = value
        interrupted = isinstance(error, KeyboardInterrupt)
        problems = [str(error) or type(error).__name__] if error and not interrupted else []
        if probe.failure:
            problems.append(f"nnvis stopped measuring at {probe.failure}")
        return run_summary(
            "interrupted" if interrupted else "failed" if problems else "completed",
            steps=probe.step,
            seconds=elapsed,
            device=self._device,
            metrics=metrics,
            steps_measured=probe.steps_measured,
            clipped_fraction=self._clipped / self._handed_over if self._handed_over else None,
            probe_seconds=probe.seconds,
            unseen=probe.unseen,
            failure=probe.failure,
            diagnosis=self._examination.account,
            nonfinite=self.nonfinite and {**asdict(self.nonfinite), "detail": self.nonfinite.detail},
            error="; ".join(problems),
        )


class _Budget:
    """Measures a step whenever the probe's time so far and what one more step would cost are within the budget."""

    def __init__(self, budget: float, recorder: _Recorder) -> None:
        self._budget, self._recorder = budget, recorder
        self._dearest_s = 0.0  # what a measured step has cost at most, old ones counting less and less
        self._measured, self._seconds = 0, 0.0

    def __call__(self, step: int) -> bool:
        probe = self._recorder.probe
        if not probe.steps_measured:
            return True
        if probe.steps_measured > self._measured:
            spent = (probe.seconds - self._seconds) / (probe.steps_measured - self._measured)
            self._dearest_s = spent if self._measured == 0 else max(0.9 * self._dearest_s, spent)
            self._measured, self._seconds = probe.steps_measured, probe.seconds
        return probe.seconds + self._dearest_s <= self._budget * self._recorder.elapsed


@contextlib.contextmanager
def _told_once(what: str) -> Any:
    try:
        yield
    except Exception as error:
        tell(f"nnvis: {what}: {type(error).__name__}: {error}", stacklevel=3)


def _number(name: str, value: Any) -> float | Tensor:
    """A scalar that the loop logs, as a copy; that of a tensor stays where it is."""
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
        return value.detach().clone()
    if not isinstance(value, Tensor | str):
        with contextlib.suppress(TypeError, ValueError):
            return float(value)
    what = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
    raise InputError(f"probe.log: {name} should be a single number, got {what}")


def _as_list(value: Any, kinds: Any, name: str, expected: str) -> list[Any]:
    if value is None:
        return []
    values = [value] if isinstance(value, kinds) else list(value) if isinstance(value, Iterable) else [value]
    for one in values:
        if not isinstance(one, kinds):
            raise InputError(f"watch: {name} should be {expected}; got {type(one).__name__}")
    return values


def _checker(
    model: nn.Module,
    loss_fn: Callable[[Any, Any], Tensor] | None,
    probe_data: tuple[Any, Any] | None,
    val_data: tuple[Any, Any] | None,
    earlier: Sequence[Check],
) -> Checker | None:
    if loss_fn is None and probe_data is None and val_data is None:
        return None
    if loss_fn is None or probe_data is None:
        missing = "loss_fn" if loss_fn is None else "probe_data"
        raise InputError(f"watch: loss_fn and probe_data belong together; {missing} is missing")
    for name, data in (("probe_data", probe_data), ("val_data", val_data)):
        if data is not None and not (isinstance(data, tuple | list) and len(data) == 2):
            raise InputError(f"watch: {name} should be a pair (inputs, targets), got {type(data).__name__}")
    rows, val = (None if data is None else Rows(*data).to(_device_of(model)) for data in (probe_data, val_data))
    assert rows is not None
    try:
        return Checker(model, loss_fn, rows, val=val, most_rows=earlier[0].facts.get("most_rows") if earlier else None)
    except ValueError as error:
        raise InputError(f"watch: probe_data: {error}") from None


def _rank() -> int:
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if distributed else 0


def _device_of(model: nn.Module) -> str:
    return str(next((p.device for p in model.parameters()), torch.device("cpu")))
