"""Diagnosis of a record: what is wrong, where, since when, with evidence. Needs no torch.

    found = diagnose(run)
    for finding in found: print(finding.severity, finding.symptom, finding.evidence)
    found.not_judged          # {"overfitting": "no validation rows were looked at …"}

A rule is a pure function `run -> list[Finding]` that raises `NotJudged` where the record cannot tell. Where they are:

    nonfinite.py    nonfinite_values
    gradients.py    vanishing_gradients, zero_gradients, exploding_gradients
    units.py        dead_units, saturated_activations, symmetric_units
    fit.py          not_learning, underfitting, overfitting, bad_initial_loss
    rates.py        learning_rate_too_low, learning_rate_too_high
    inputs.py       constant_features, unnormalized_inputs, unnormalized_targets, class_imbalance, shared_rows,
                    bad_labels
    structure.py    output_mismatch, loss_mismatch, missing_nonlinearity
    evidence.py     what rules ask of a record: checks, progress, intervals, Holm's correction
    remedies.py     what can be done, by symptom
    beforehand.py   the same symptoms before training, by the check of step 0 alone
    changes.py      what that means for a config

An `error` is a symptom with a consequence that lasts: no progress over the best predictor that does not see the inputs,
at two checks in a row. Without the consequence a symptom is a warning, or a note (`info`).
"""

from nnvis.diagnosis.beforehand import diagnose_beforehand
from nnvis.diagnosis.diagnose import RULES, Diagnosis, diagnose
from nnvis.diagnosis.evidence import NotJudged

__all__ = ["RULES", "Diagnosis", "NotJudged", "diagnose", "diagnose_beforehand"]
