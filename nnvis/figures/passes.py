"""What the figures of one sample's forward and backward pass draw: plain float64 numbers, no torch.

    Stage(name="linear1", kind="Linear", activation="Sigmoid", x=…, z=…, a=…, …)      # a layer with weights
    Block(name="conv1", kind="Conv2d", inputs=(1, 8, 8), outputs=(32, 8, 8), …)       # any layer, summed up

`nnvis.lessons` measures them. Shapes are those of one sample, without the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnvis.record.vocabulary import FloatArray


@dataclass(frozen=True)
class Stage:
    """One call of a layer with weights, and of the activation right behind it, if there is one.

    z is what the layer puts out, a = f(z) what the activation makes of it; without an activation a is z, and the
    slope is 1. For a Linear layer z = W·x + b.
    """

    name: str
    kind: str
    activation: str  # its class; "" for none
    x: FloatArray  # (..., in): what arrived
    z: FloatArray  # (..., out)
    a: FloatArray  # as z
    slope: FloatArray  # as z: ∂a/∂z
    grad_a: FloatArray | None  # as z: ∂L/∂a; None where the loss does not depend on it
    delta: FloatArray | None  # as z: ∂L/∂z
    weight: FloatArray | None  # (out, in) of a Linear layer; None for other kinds
    bias: FloatArray | None  # (out,)
    weight_gradient: FloatArray | None  # (out, in), the sum over all calls of the layer; None where frozen
    steepest: float | None = 1.0  # the largest slope that the activation has anywhere; None where that is not known

    @property
    def positions(self) -> int:
        """How often the layer is applied to this sample in one call: 1, or the length of a sequence."""
        return int(np.prod(self.z.shape[:-1]))


@dataclass(frozen=True)
class Block:
    """One call of any layer: shapes and sizes."""

    name: str
    kind: str
    inputs: tuple[int, ...] | None  # None where no tensor goes in
    outputs: tuple[int, ...]
    parameters: int
    activates: bool  # whether it is an elementwise nonlinearity
    rms: float  # root mean square of what it puts out
    low: float
    high: float
    gradient_rms: float | None  # of ∂L/∂output; None where the loss does not depend on it


@dataclass(frozen=True)
class Neuron:
    """One unit of a Linear layer for one sample: z = Σ wᵢ·xᵢ + b, a = f(z)."""

    layer: str
    index: int
    x: FloatArray  # (in,)
    w: FloatArray  # (in,)
    b: float
    z: float
    a: float
    activation: str  # "" for none
    curve: tuple[FloatArray, FloatArray]  # (P,), (P,): the activation around z

    @property
    def terms(self) -> FloatArray:
        """(in,): wᵢ·xᵢ."""
        return self.w * self.x


@dataclass(frozen=True)
class WeightFactors:
    """∂L/∂w of one weight of a Linear layer by the chain rule, with two independent checks, and what its update does.

    The arrays have one entry for each time that the weight is used (P = 1, or the steps of a sequence); the
    derivative is the sum over them of ∂L/∂a · ∂a/∂z · ∂z/∂w (Rumelhart, Hinton and Williams 1986).
    """

    layer: str
    row: int
    col: int
    w: float
    x: FloatArray  # (P,): ∂z/∂w
    z: FloatArray  # (P,)
    a: FloatArray  # (P,)
    slope: FloatArray  # (P,): ∂a/∂z
    grad_a: FloatArray  # (P,): ∂L/∂a
    activation: str
    autograd: float  # ∂L/∂w of torch
    difference: float  # (L(w + h) − L(w − h)) / 2h
    step: float  # h
    rounding: float  # by so much rounding alone may move the difference
    lr: float
    loss: float
    loss_alone: float  # after this weight alone has moved by −lr·∂L/∂w
    loss_all: float  # after every trained parameter has

    @property
    def product(self) -> float:
        """∂L/∂w by the chain rule."""
        return float((self.grad_a * self.slope * self.x).sum())

    @property
    def after(self) -> float:
        """The weight after one step of plain SGD: w − lr·∂L/∂w."""
        return self.w - self.lr * self.product

    @property
    def agrees(self) -> bool:
        """Whether the chain rule gives autograd's number, and the finite difference both up to its own error."""
        near = abs(self.product - self.autograd) <= 1e-9 * abs(self.autograd) + 1e-300
        return near and abs(self.difference - self.autograd) <= 1e-5 * abs(self.autograd) + self.rounding
