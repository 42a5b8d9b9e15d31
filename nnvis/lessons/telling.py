"""An explanation in words and numbers: rich on a terminal, plain lines in a pipe.

tell(explain(open_subject("moons_mlp")), Console(highlight=False))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import SupportsFloat

import numpy as np
from rich.console import Console
from rich.text import Text

from nnvis.figures.depth import flow_of
from nnvis.figures.passes import Block, Neuron, Stage, WeightFactors
from nnvis.figures.words import shorten
from nnvis.lessons.explaining import Explanation
from nnvis.record.vocabulary import FloatArray

Say = Callable[..., None]  # (text, style): one line

_VALUES = 6  # of a vector
_ROWS = 3  # of a matrix
_LAYERS = 12  # with their numbers; of more, the first and the last half of that
FORMULAS = {
    "Sigmoid": "sigmoid(z)",
    "Tanh": "tanh(z)",
    "ReLU": "max(0, z)",
    "": "z",
}


def tell(explanation: Explanation, console: Console) -> None:
    """The sample, the forward pass, one neuron, the loss, one weight's derivative, the gradient through depth."""
    say = _sayer(console)
    passes = explanation.passes
    say(f"{explanation.name}, {explanation.state}", "bold")
    say(
        f"row {explanation.sample} of {explanation.rows:,} for training; in float64 and eval mode "
        "(no dropout, batch norm by its running statistics)"
    )
    _heading(say, "Forward pass, layer by layer")
    say(f"inputs {_shape(passes.inputs.shape)}: {vector(passes.inputs)}")
    stages = {stage.name: stage for stage in passes.stages}
    _each(say, passes.blocks, lambda block: _tell_block(say, block, stages.get(block.name)))
    if passes.unseen:
        say(f"not seen, since they did not run as modules: {', '.join(passes.unseen)}")
    say(f"outputs {_shape(passes.outputs.shape)}: {vector(passes.outputs)}")
    say(f"target: {_target(explanation)}")
    say(f"loss L = {_loss(explanation)}", "bold")
    if explanation.neuron:
        _tell_neuron(say, explanation.neuron)
    else:
        say("")
        say("No neuron and no weight is taken apart: the network has no Linear layer.")
    _heading(say, "Backward pass")
    say(f"∂L/∂outputs: {vector(passes.output_gradient)}")
    if explanation.weight:
        _tell_weight(say, explanation.weight, explanation.optimizer)
    _tell_depth(say, passes.stages)


def exact(value: SupportsFloat) -> str:
    """Six significant digits."""
    return f"{float(value):.6g}".replace("-", "−")


def vector(values: FloatArray, most: int = _VALUES) -> str:
    """The first numbers of an array, and of how many."""
    flat = np.ravel(values)
    words = "  ".join(f"{float(value):.4g}".replace("-", "−") for value in flat[:most])
    return words if len(flat) <= most else f"{words}  …  (first {most} of {len(flat):,})"


def formula(activation: str) -> str:
    """The activation as a formula of z."""
    return FORMULAS.get(activation, f"{activation}(z)")


def _sayer(console: Console) -> Say:
    return lambda text, style="": console.print(Text(text, style=style), soft_wrap=not console.is_terminal)


def _heading(say: Say, text: str) -> None:
    say("")
    say(text, "bold blue")


def _each(say: Say, items: Sequence[Block], tell_one: Callable[[Block], None]) -> None:
    """All layers, or the first and the last."""
    half = _LAYERS // 2
    for i, item in enumerate(items):
        if len(items) <= _LAYERS or i < half or i >= len(items) - half:
            tell_one(item)
        elif i == half:
            say(f"… {len(items) - _LAYERS} layers between are not listed; forward_values.png has all of them")


def _tell_block(say: Say, block: Block, stage: Stage | None) -> None:
    arrives = "?" if block.inputs is None else _shape(block.inputs)
    say(f"{block.name}: {block.kind} {arrives} → {_shape(block.outputs)}", "bold")
    if stage is None or stage.weight is None:
        weights = f"; its {block.parameters:,} parameters are not shown one by one" if block.parameters else ""
        say(f"  puts out {exact(block.low)} to {exact(block.high)}, rms {exact(block.rms)}{weights}")
        return
    say(f"  x = {vector(stage.x)}")
    for row in range(min(_ROWS, len(stage.weight))):
        say(f"  W[{row}] = {vector(stage.weight[row])}")
    if len(stage.weight) > _ROWS:
        say(f"  … (first {_ROWS} of {len(stage.weight):,} rows)")
    say(f"  b = {'none' if stage.bias is None else vector(stage.bias)}")
    say(f"  z = W·x + b = {vector(stage.z)}")
    if stage.activation:
        say(f"  a = {formula(stage.activation)} = {vector(stage.a)}")


def _tell_neuron(say: Say, neuron: Neuron) -> None:
    _heading(say, f"One neuron: {neuron.layer}, unit {neuron.index}")
    n, k = len(neuron.x), neuron.index
    order = np.arange(n) if n <= _VALUES else np.argsort(-abs(neuron.terms), kind="stable")[:_VALUES]
    for i in order:
        say(f"  W[{k},{i}]·x[{i}] = {exact(neuron.w[i])} · {exact(neuron.x[i])} = {exact(neuron.terms[i])}")
    if n > _VALUES:
        rest = float(np.delete(neuron.terms, order).sum())
        say(f"  … the other {n - _VALUES:,} of {n:,} terms, none larger, sum to {exact(rest)}")
    say(f"  z = Σ W[{k},i]·x[i] + b[{k}] = {exact(neuron.terms.sum())} + {exact(neuron.b)} = {exact(neuron.z)}")
    if neuron.activation:
        say(f"  a = {formula(neuron.activation)} = {exact(neuron.a)}")
    else:
        say("  a = z: no activation layer takes this sum as it is")


def _tell_weight(say: Say, weight: WeightFactors, optimizer: str) -> None:
    say("")
    say(f"One weight: {weight.layer}, row {weight.row}, column {weight.col}: w = {exact(weight.w)}", "bold")
    if len(weight.x) == 1:
        say(f"  ∂L/∂a = {exact(weight.grad_a[0])}")
        say(f"  ∂a/∂z = {exact(weight.slope[0])}   ({_slope_words(weight)})")
        say(f"  ∂z/∂w = {exact(weight.x[0])}   (the input x that w multiplies)")
        say(f"  ∂L/∂w = ∂L/∂a · ∂a/∂z · ∂z/∂w = {exact(weight.product)}")
    else:
        terms = weight.grad_a * weight.slope * weight.x
        say(f"  it is used {len(weight.x)} times (steps of a sequence, or calls); the largest terms:")
        for i in np.argsort(-abs(terms), kind="stable")[:_ROWS]:
            factors = " · ".join(exact(float(each[i])) for each in (weight.grad_a, weight.slope, weight.x))
            say(f"  ∂L/∂a · ∂a/∂z · ∂z/∂w at {i} = {factors} = {exact(terms[i])}")
        say(f"  ∂L/∂w = the sum of all {len(weight.x)} = {exact(weight.product)}")
    say(f"  autograd:          {exact(weight.autograd)}")
    say(f"  finite difference: {exact(weight.difference)}   ((L(w+h) − L(w−h)) / 2h, h = {weight.step:g})")
    say(f"  {verdict(weight)}", "green" if weight.agrees else "yellow")
    say("")
    say(f"One step of plain SGD on this row alone, lr = {weight.lr:g} (training itself uses {optimizer})", "bold")
    say(f"  w − lr·∂L/∂w = {exact(weight.w)} − {weight.lr:g} · {exact(weight.product)} = {exact(weight.after)}")
    say(f"  L = {exact(weight.loss)} → {exact(weight.loss_alone)} when this weight alone moves")
    say(f"  L = {exact(weight.loss)} → {exact(weight.loss_all)} when every trained parameter does")


def verdict(weight: WeightFactors) -> str:
    """How the three numbers agree."""
    if not np.isfinite([weight.product, weight.autograd, weight.difference]).all():
        return "not finite: follow the forward and the backward pass to where that begins"
    if not weight.agrees:
        return (
            "the finite difference differs: within h of w the loss has a corner (ReLU has one at 0) or is very curved"
        )
    if weight.autograd == 0:
        return "the gradient is exactly 0: one of the factors is"
    if abs(weight.autograd) < weight.rounding:
        return f"too small for a finite difference, which rounding moves by up to {weight.rounding:.0e} here"
    return f"all three agree (to {abs(weight.difference / weight.autograd - 1):.0e} of the value)"


def _slope_words(weight: WeightFactors) -> str:
    z = exact(weight.z[0])
    if not weight.activation:
        return "a = z: no activation layer takes z as it is"
    return f"the slope of {weight.activation.lower()} at z = {z}"


def _tell_depth(say: Say, stages: Sequence[Stage]) -> None:
    flow = flow_of(stages)
    n, half = len(flow.layers), _LAYERS // 2
    if n < 2:
        return
    say("")
    say("The gradient through depth: δ = ∂L/∂z, from the last layer back to the first", "bold")
    say(f"{'layer':<18}{'‖δ‖':>9}{'factor':>10} ={'slope':>9} ×{'weights':>9}{'‖δ‖/last':>11}{'slopes ≤':>10}", "dim")
    for i in reversed(range(n)):
        if half <= i < n - half:
            if i == half:
                say(f"… {n - 2 * half} layers between are not listed; gradient_factors.png has all of them")
            continue
        factor, slope, weights = (
            _short(each[i]) if i < n - 1 else "" for each in (flow.factor, flow.slope, flow.weights)
        )
        bound = "?" if np.isnan(flow.textbook[i]) else _short(flow.textbook[i])
        name, ends = shorten(flow.layers, 17)[i], f"{_short(flow.relative[i]):>11}{bound:>10}"
        say(f"{name:<18}{_short(flow.norms[i]):>9}{factor:>10}  {slope:>9}  {weights:>9}{ends}")
    say("factor: ‖δ‖ of a layer over that of the next one = what the slope of its activation leaves × what comes back")
    say(
        "through the weights of the next layer (and norms, pooling and skips between). slopes ≤: the textbook's product"
    )
    say("of the largest slopes from here to the end (0.25 for each sigmoid), with the weights left out.")


def _short(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def _target(explanation: Explanation) -> str:
    targets = explanation.passes.targets
    if not explanation.classes:
        return vector(np.atleast_1d(targets))
    index = int(np.ravel(targets)[0])
    return f"class {index} ({explanation.classes[index]})"


def _loss(explanation: Explanation) -> str:
    """The loss of this row, with its formula where that is short."""
    passes, value = explanation.passes, exact(explanation.passes.loss)
    outputs, target = np.ravel(passes.outputs), passes.targets
    if explanation.loss == "cross_entropy" and not explanation.loss_settings["label_smoothing"] and target.ndim == 0:
        shares = np.exp(outputs - outputs.max())
        p = float(shares[int(target)] / shares.sum())
        return f"−log p = −log {exact(p)} = {value}   (p: the softmax of the outputs at the target)"
    if explanation.loss == "binary_cross_entropy":
        return f"{value}   (binary cross entropy; p = sigmoid(output) = {exact(1 / (1 + np.exp(-outputs[0])))})"
    return f"{value}   ({explanation.loss.replace('_', ' ')})"


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "1"
