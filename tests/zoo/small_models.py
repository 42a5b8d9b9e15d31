"""Any architecture of `transformers`, small and randomly initialised, with inputs for it; nothing is downloaded.

model, inputs = small_model("bert")          # a config class's defaults with every size shrunk
outputs = model(**inputs)
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, MODEL_MAPPING, PreTrainedConfig

ROWS, TOKENS, VOCABULARY, PIXELS, FRAMES = 3, 10, 99, 64, 128
SIZES = {  # what a field is called -> what it becomes
    r".*(vocab|vocabulary)_?size": VOCABULARY,
    r".*(num|n|encoder|decoder)_?(hidden|encoder|decoder|text|attention)?_?(layers?|blocks?)": 2,
    r".*(key_value|kv)_heads": 2,
    r".*heads?|.*_n_heads?": 4,
    r".*(head_dim|d_kv|qk_nope_head_dim|v_head_dim)": 8,
    r".*(intermediate|ffn|inner|mlp|feed_?forward|d_ff|hidden_dim).*": 48,
    r".*(hidden_size|d_model|n_embd|embed_dim|embedding_size|embedding_dim|output_dim|projection_dim|input_dim)": 32,
    r"dim|(encoder|decoder)_dim|width|entity_emb_size|.*projection_size|hidden_channels": 32,
    r".*num_(local_|routed_)?experts": 4,
    r".*experts_per_tok|num_selected_experts|.*topk.*group|n_group": 1,
    r"image_size|input_size|.*img_size": PIXELS,
    r".*patch_size": 16,
    r".*max_position_embeddings|n_positions|max_seq.*|context_length|n_ctx|max_source_positions": 128,
}


def small_model(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """Built with the current random state, in training mode; inputs are the same for every call."""
    config = small_config(name)
    kind: Any = MODEL_MAPPING[type(config)]
    model = (kind[0] if isinstance(kind, tuple) else kind)(config)
    return model.train(), inputs_of(model, config)


def small_config(name: str) -> PreTrainedConfig:
    kind = CONFIG_MAPPING[name]
    return kind(**_shrunk(kind().to_dict()))


def inputs_of(model: Any, config: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(3, VOCABULARY, (ROWS, TOKENS), generator=generator)
    inputs: dict[str, Any] = {}
    match model.main_input_name:
        case "pixel_values":
            channels = getattr(config, "num_channels", 3)
            inputs["pixel_values"] = torch.randn(ROWS, channels, PIXELS, PIXELS, generator=generator)
        case "input_values":
            inputs["input_values"] = torch.randn(ROWS, 4000, generator=generator)
        case "input_features":
            size = getattr(config, "num_mel_bins", None) or getattr(config, "feature_projection_input_dim", None) or 80
            inputs["input_features"] = torch.randn(ROWS, size, FRAMES, generator=generator)
        case _:
            inputs["input_ids"] = tokens
    if getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = tokens[:, :4]
    return inputs


def loss_of(outputs: Any) -> Tensor:
    """The mean square of everything that has a gradient."""
    found = [t for t in _tensors(outputs) if t.requires_grad]
    return torch.stack([t.float().square().mean() for t in found]).sum()


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for item in value for t in _tensors(item)] if isinstance(value, list | tuple) else []


def _shrunk(fields: dict[str, Any]) -> dict[str, Any]:
    layers = next((fields[key] for key in ("num_hidden_layers", "n_layer", "num_layers") if fields.get(key)), None)
    names = ("model_type", "id2label", "label2id", "transformers_version")
    return {key: _smaller(key, value, layers) for key, value in fields.items() if key not in names}


def _smaller(key: str, value: Any, layers: int | None) -> Any:
    if isinstance(value, dict):
        return _shrunk(value)
    if isinstance(value, list) and layers and len(value) == layers and len(value) > 4:
        return value[:1] + value[-1:]  # one for each layer
    if key.endswith(("_token_id", "_token_index", "_image_token", "_token")) and isinstance(value, int):
        return value % 3
    if isinstance(value, bool) or not isinstance(value, int) or value == 0:
        return value
    size = next((size for pattern, size in SIZES.items() if re.fullmatch(pattern, key)), value)
    return min(size, value) if value > 0 else value
