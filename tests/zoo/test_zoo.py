"""Watching changes no bit of the training of many architectures from `transformers`, and its numbers are right.

pytest -m zoo -n 2        # not in CI
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.modules import module as torch_module

import nnvis

ARCHITECTURES = """
EvollaModel afmoe aimv2_vision_model albert apertus apertus1p5_text arcee aria_text audioflamingo3 aya_vision bart
beam bert bert-generation big_bird bigbird_pegasus biogpt bitnet blenderbot blenderbot-small bloom camembert canary
canine chinese_clip_vision_model clip_text_model clip_vision_model cohere cohere2 cohere2_moe cohere2_vision
cohere_asr convbert cosmos3_omni cpmant ctrl cwm data2vec-text deberta deberta-v2 deepseek_vl deit diffllama
distilbert doge dpr dpt electra ernie ernie4_5 eurobert exaone exaone4 exaone_moe falcon falcon_mamba flex_olmo flint
fnet fsmt funnel fuyu gemma gemma2 gemma3 gemma3_text gemma4_audio git glm glm4 glm4_moe glmasr glmasr_encoder glpn
got_ocr2 gpt2 gpt_bigcode gpt_neo gpt_neox gpt_neox_japanese gpt_oss granite granite_docling granite_docling_text
granite_speech granite_speech_plus granite_swa granitemoe granitemoe_swa granitemoeshared gte helium higgs_audio_v2
hy_v3 hy_v4 hyperclovax hyperclovax_vision_v2 ibert idefics2 idefics3 ijepa imagegpt inkling2_loop inkling2_loop_text
inkling_mm_model inkling_text jais2 jetmoe jina_embeddings_v3 kolibri1 kosmos-2.5 laguna lara_mini lasr_ctc
lasr_encoder layoutlm led lfm2 lfm2_vl lighton_ocr llama4_text llava llava_next llava_next_video llava_onevision
longformer longt5 luke m2m_100 mamba marian markuplm mbart megatron-bert mellum mimo_v2_flash minicpm_ocr minicpmv4_6
minicpmv4_7 minimax minimax_m2 minimax_m3_vl minimax_m3_vl_text ministral3 mistral mistral3 mixtral mlcd mllama
mobilenet_v2 modernbert modernbert-decoder modernvbert molmo2_text moshi moss_transcribe_diarize mpnet mpt mra mt5
muse_glimmer muse_glimmer_text muse_spark_text mvp nanochat nemotron3_5_transcribe_asr_audio
nemotron3_5_transcribe_audio nemotron3_diarization nemotron3_diarization_audio nllb-moe nomic_bert nystromformer olmo
olmo2 olmo3 olmo_hybrid olmoe openai-gpt openai_privacy_filter opt ovis2 paligemma pegasus pegasus_x persimmon phi
phi3 phi4_multimodal phimoe pixtral plbart poolformer prophetnet pvt_v2 qwen2 qwen2_audio qwen2_moe qwen3 qwen3_5
qwen3_5_moe qwen3_5_moe_text qwen3_5_text qwen3_asr qwen3_moe qwen3_next qwen3_omni_moe_thinker qwen3_vl qwen3_vl_moe
qwen3_vl_moe_text qwen3_vl_text radio rembert roberta roberta-prelayernorm roc_bert roformer rwkv sam3_vit_model
sam_hq_vision_model sam_vision_model seed_oss segformer sew sew-d siglip_vision_model smollm3 smolvlm solar_open
splinter squeezebert stablelm starcoder2 switch_transformers t5 t5gemma t5gemma2 tapas tipsv2_text_model ultrabert
ultravbert umt5 vaultgemma video_llama_3 video_llava vipllava visual_bert vit vit_mae vit_msn voxtral
voxtral_realtime_encoder xglm xlm-roberta xlm-roberta-xl yolos yoso zaya
""".split()  # noqa: SIM905
STEPS = 3

pytestmark = [pytest.mark.zoo, pytest.mark.filterwarnings("ignore")]


def test_there_are_enough_of_them() -> None:
    assert len(set(ARCHITECTURES)) == len(ARCHITECTURES) >= 60


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_watching_changes_no_bit_and_tells_the_truth(name: str, tmp_path: Path) -> None:
    plain = train(name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watched = train(name, lambda *started: nnvis.watch(*started, log_dir=tmp_path, every=1))
    told = [str(one.message) for one in caught if str(one.message).startswith("nnvis")]
    assert all(text.startswith("nnvis: not measured") for text in told), told
    assert plain.keys() == watched.keys()
    different = [what for what, tensor in plain.items() if not torch.equal(tensor, watched[what])]
    assert not different
    assert not torch_module._global_forward_hooks
    assert not torch_module._global_forward_pre_hooks
    assert not torch_module._global_backward_hooks

    run = nnvis.load_run(tmp_path)
    assert run.layers["grad_norm"].steps.tolist() == list(range(STEPS))
    expected = by_hand(name)
    assert run.scalars["grad_norm/total"].values[0] == pytest.approx(expected.total, rel=1e-4)
    assert len(expected.grad_norms) >= 3
    for layer, norm in expected.grad_norms.items():
        assert value_of(run, "grad_norm", layer) == pytest.approx(norm, rel=1e-3, abs=1e-12), layer
    assert len(expected.stds) >= 3
    for layer, (std, absmax) in expected.stds.items():
        assert value_of(run, "activation_std", layer) == pytest.approx(std, rel=1e-3, abs=1e-5 * absmax), layer


def train(name: str, watch: Callable[..., Any] | None = None) -> dict[str, Tensor]:
    """Losses, gradients of every step, weights, buffers, random state and training flags at the end."""
    from small_models import loss_of, small_model

    seed()
    model, inputs = small_model(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    watching = watch(model, optimizer) if watch else None
    seen: dict[str, Tensor] = {}
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(model(**inputs))
        loss.backward()
        seen |= {f"{step} grad {n}": p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        seen[f"{step} loss"] = loss.detach()
        optimizer.step()
    if watching:
        watching.close()
        assert not optimizer._optimizer_step_pre_hooks
        assert not optimizer._optimizer_step_post_hooks
    assert all(torch.isfinite(seen[f"{step} loss"]) for step in range(STEPS))
    seen |= {f"parameter {n}": p.detach() for n, p in model.named_parameters()}
    seen |= {f"buffer {n}": b for n, b in model.named_buffers()}
    seen["random state"] = torch.get_rng_state()
    seen["numpy's random state"] = torch.from_numpy(np.random.get_state(legacy=False)["state"]["key"])  # noqa: NPY002
    seen["Python's random state"] = torch.tensor(random.getstate()[1], dtype=torch.int64)
    seen["training"] = torch.tensor([module.training for module in model.modules()])
    assert not any(p._post_accumulate_grad_hooks or p._backward_hooks for p in model.parameters())
    return seen


def seed() -> None:
    """Of all three, since some architectures draw masks from numpy."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)


class by_hand:  # noqa: N801, a run of its own, whose results these are
    """The first step again: gradient norms of all parameters, and the spread of outputs, through a hook of our own."""

    def __init__(self, name: str) -> None:
        from small_models import loss_of, small_model

        seed()
        model, inputs = small_model(name)
        outputs: dict[str, list[Tensor]] = {}
        for layer, module in model.named_modules():
            if layer and not list(module.children()):
                module.register_forward_hook(
                    lambda _, __, output, layer=layer: outputs.setdefault(layer, []).append(
                        output.detach().clone() if isinstance(output, Tensor) else torch.tensor(0)
                    )
                )
        loss_of(model(**inputs)).backward()
        self.grad_norms = {
            layer: norm_of(module.parameters(recurse=False)) for layer, module in model.named_modules() if layer
        }
        self.grad_norms = {layer: norm for layer, norm in self.grad_norms.items() if norm > 0}
        self.total = norm_of(model.parameters())
        self.stds = {
            layer: (called[0].double().std().item(), called[0].abs().max().item())
            for layer, called in outputs.items()
            if len(called) == 1 and called[0].is_floating_point() and called[0].numel() > 1
        }


def norm_of(parameters: Any) -> float:
    return math.sqrt(sum(p.grad.double().square().sum().item() for p in parameters if p.grad is not None))


def value_of(run: nnvis.Run, quantity: str, layer: str) -> float:
    """At the first step; NaN where it is missing."""
    series = run.layers[quantity]
    return float(series.at(0)[series.layers.index(layer)]) if layer in series.layers else math.nan
