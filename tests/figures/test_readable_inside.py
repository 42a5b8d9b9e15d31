"""The figures of what a network has become: no text over another, for any depth, width, data and numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from overlaps import problems

from nnvis.figures.images import feature_maps, filters
from nnvis.figures.planes import decision_regions, neuron_maps
from nnvis.figures.projections import bent_space, projections
from nnvis.lessons import Subject, open_subject
from nnvis.lessons.images import feature_maps_of, filters_of
from nnvis.lessons.planes import neurons_of, plane_of
from nnvis.lessons.projecting import bent_space_of, projections_of

SMALL = "data.samples=120"
OF_TWO_INPUTS = {
    "2 wide": ["model={kind: mlp, depth: 2, width: 512, activation: sigmoid}", SMALL],
    "20": ["model={kind: mlp, depth: 20, width: 64, activation: gelu}", SMALL],
    "100": ["model={kind: mlp, depth: 100, width: 32, activation: relu, init: kaiming_uniform}", SMALL],
    "residual": ["model={kind: mlp, depth: 3, width: 8, activation: tanh, residual: true, norm: layer}", SMALL],
    "one logit": ["loss=binary_cross_entropy", "model.hidden=[1]", SMALL],
    "regression": ["data={kind: plane, samples: 120}"],
    "30 classes": ["data={kind: blobs, samples: 300, classes: 30}"],
    "nothing held out": ["data={kind: circles, samples: 60, val_fraction: 0.0}"],
}
OF_ANY_KIND = {
    "digits_cnn": ["model.hidden=[4]"],
    "adding_lstm": ["data.samples=120"],
    "names_text": [],
    "diabetes_regression": [],
    "digits_mlp": ["model={kind: mlp, depth: 2, width: 16, activation: relu}"],
}


@pytest.mark.parametrize("network", OF_TWO_INPUTS)
def test_of_two_inputs(network: str) -> None:
    subject = open_subject("moons_mlp", OF_TWO_INPUTS[network])
    assert problems(decision_regions(plane_of(subject))) == []
    assert problems(neuron_maps(neurons_of(subject))) == []
    assert problems(bent_space(bent_space_of(subject))) == []
    assert problems(projections(projections_of(subject))) == []


@pytest.mark.parametrize("config", OF_ANY_KIND)
def test_projections_of_any_kind(config: str) -> None:
    assert problems(projections(projections_of(open_subject(config, OF_ANY_KIND[config])))) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, 1e200])
def test_of_a_network_that_is_broken(value: float) -> None:
    subject = broken(open_subject("moons_mlp", ["model.activation=relu", SMALL]), "linear2.weight", value)
    assert problems(decision_regions(plane_of(subject))) == []
    neurons, bent, projected = neurons_of(subject), bent_space_of(subject), projections_of(subject)
    assert problems(neuron_maps(neurons)) == []
    assert problems(bent_space(bent)) == []
    fig = projections(projected)
    assert problems(fig) == []
    words = {text.get_text() for ax in fig.axes for text in ax.texts}
    if not np.isfinite(value):
        assert words == {"no finite numbers"}
        assert np.isnan(projected.panels[-1].score)
    if value == 0:
        assert words == {"all rows on one spot"}
        assert neurons.layers[-1].flat == 2
        assert np.isnan(neurons.layers[-1].straight)


def broken(subject: Subject, name: str, value: float) -> Subject:
    subject.model.double()
    with torch.no_grad():
        subject.model.get_parameter(name).fill_(value)
    return subject


def test_of_convolutions() -> None:
    deep = "model={kind: cnn, channels: [4, 4, 4, 4, 4, 4, 4, 4, 4, 4], pool: none, hidden: [4], residual: true}"
    for changes in ([], [deep]):
        subject = open_subject("digits_cnn", changes)
        first = filters_of(subject)
        assert problems(filters(first)) == []
        assert problems(feature_maps(feature_maps_of(subject, 2))) == []
    said = feature_maps(feature_maps_of(subject, 2)).get_supxlabel().replace("\n", " ")
    assert "8 of 11 convolutions are drawn" in said
    weights = np.random.default_rng(0).normal(size=(64, 20, 5, 5))
    for channels in (1, 3, 5, 20):
        norms = np.arange(float(100))  # one filter is 0
        some = replace(first, weights=weights[:, :channels], drawn=np.arange(64) + 36, norms=norms)
        assert problems(filters(some)) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_of_convolutions_that_are_broken(value: float) -> None:
    subject = broken(open_subject("digits_cnn", ["model.hidden=[4]"]), "conv1.weight", value)
    assert problems(filters(filters_of(subject))) == []
    assert problems(feature_maps(feature_maps_of(subject, 0))) == []
