"""The figures of an explanation.

draw(explain(open_subject("moons_mlp")), "explained")      # the files
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

from matplotlib.figure import Figure

from nnvis.figures.depth import flow_of, forward_values, gradient_factors
from nnvis.figures.neuron import neuron_sum, weight_chain
from nnvis.figures.nodes import network_blocks, network_nodes
from nnvis.figures.style import save
from nnvis.lessons.explaining import Explanation
from nnvis.lessons.passes import Passes


def draw(explanation: Explanation, folder: str | Path) -> list[Path]:
    """Draws what there are numbers for, as PNG, and returns the files."""
    return [save(figure(), Path(folder) / f"{name}.png") for name, figure in figures_of(explanation).items()]


def figures_of(explanation: Explanation) -> dict[str, Callable[[], Figure]]:
    """What is drawn of an explanation, by file name."""
    stages = explanation.passes.stages
    figures: dict[str, Callable[[], Figure]] = {"network_passes": partial(_network, explanation.passes)}
    if stages:
        figures["forward_values"] = partial(forward_values, stages)
    if len(flow_of(stages).layers) > 1:
        figures["gradient_factors"] = partial(gradient_factors, stages)
    if explanation.neuron:
        figures["neuron"] = partial(neuron_sum, explanation.neuron)
    if explanation.weight:
        figures["weight_chain"] = partial(weight_chain, explanation.weight)
    return figures


def _network(passes: Passes) -> Figure:
    """Nodes and edges where the layers are a plain chain of Linear ones, else blocks."""
    if chained(passes):
        return network_nodes(passes.inputs, passes.stages)
    return network_blocks(passes.blocks, passes.skips)


def chained(passes: Passes) -> bool:
    """Whether there are nothing but Linear layers, each of one vector, and activations, dropout and flattening."""
    plain = {"Linear", "Flatten", "Dropout", "Identity"}
    return (
        bool(passes.stages)
        and not passes.skips
        and all(block.kind in plain or block.activates for block in passes.blocks)
        and all(stage.z.ndim == 1 and "#" not in stage.name for stage in passes.stages)
        and all(one.a.size == other.x.size for one, other in pairwise(passes.stages))
        and passes.inputs.size == passes.stages[0].x.size
    )
