"""YAML text -> one frozen, validated `Config`, or a study of several; every error as file:line:col. No torch.

from nnvis.config import load_config, load_study_config

config = load_config("configs/digits_mlp.yaml", ["optimizer.lr=0.01"])
study = load_study_config("configs/studies/vanishing.yaml", ["seeds=3"])
"""

from nnvis.config.dumping import dump_config, flatten
from nnvis.config.editor_schema import field_texts, json_schema, schema_text, study_schema
from nnvis.config.expectations import Expectation, parse_expectation
from nnvis.config.loading import load_config, parse_config, shipped_configs, shipped_studies
from nnvis.config.problems import ConfigError, Problem
from nnvis.config.schema import Config
from nnvis.config.study import (
    StudyConfig,
    dump_study,
    is_study_file,
    load_study_config,
    parse_study,
)
from nnvis.config.torch_signatures import TorchTable, torch_table

__all__ = [
    "Config",
    "ConfigError",
    "Expectation",
    "Problem",
    "StudyConfig",
    "TorchTable",
    "dump_config",
    "dump_study",
    "field_texts",
    "flatten",
    "is_study_file",
    "json_schema",
    "load_config",
    "load_study_config",
    "parse_config",
    "parse_expectation",
    "parse_study",
    "schema_text",
    "shipped_configs",
    "shipped_studies",
    "study_schema",
    "torch_table",
]
