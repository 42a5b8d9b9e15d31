"""TensorBoard's protocol buffers, in one place. Their classes are made at import, where no type checker sees them."""

# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

PLUGIN = "nnvis"
"""The plugin that nnvis's own tensors belong to."""
VERSION = 1
"""Of what nnvis's own tensors mean; a reader refuses a newer one."""
NETWORK = "network"
"""The tag of the table of layers."""

FACTS = "checks/facts"
"""The tag of what checks found about structure and data."""

Message = Any

Event: Any = event_pb2.Event
Metadata: Any = summary_pb2.SummaryMetadata
Tensor: Any = tensor_pb2.TensorProto
Shape: Any = tensor_shape_pb2.TensorShapeProto

FLOAT: int = types_pb2.DT_FLOAT
DOUBLE: int = types_pb2.DT_DOUBLE
INT32: int = types_pb2.DT_INT32
INT64: int = types_pb2.DT_INT64
STRING: int = types_pb2.DT_STRING

SCALAR_CLASS: int = summary_pb2.DATA_CLASS_SCALAR
TENSOR_CLASS: int = summary_pb2.DATA_CLASS_TENSOR
BLOB_CLASS: int = summary_pb2.DATA_CLASS_BLOB_SEQUENCE

charts: Any = layout_pb2
hparams: Any = api_pb2
HParams: Any = plugin_data_pb2.HParamsPluginData
SessionStart: Any = plugin_data_pb2.SessionStartInfo
SessionEnd: Any = plugin_data_pb2.SessionEndInfo
