"""YAML text -> one frozen, validated `Config`; every error as file:line:col. No torch.

from nnvis.config import load_config

config = load_config("configs/digits_mlp.yaml", ["optimizer.lr=0.01"])
"""

from nnvis.config.dumping import dump_config, flatten
from nnvis.config.editor_schema import field_texts, json_schema, schema_text
from nnvis.config.loading import load_config, parse_config, shipped_configs
from nnvis.config.problems import ConfigError, Problem
from nnvis.config.schema import Config
from nnvis.config.torch_signatures import TorchTable, torch_table

__all__ = [
    "Config",
    "ConfigError",
    "Problem",
    "TorchTable",
    "dump_config",
    "field_texts",
    "flatten",
    "json_schema",
    "load_config",
    "parse_config",
    "schema_text",
    "shipped_configs",
    "torch_table",
]
