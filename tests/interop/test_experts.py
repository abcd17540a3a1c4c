"""What the families with experts refuse."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from gptlab.interop.folder import Folder
from gptlab.interop.reading import all_shapes, read_settings

SIZES = {
    "vocab_size": 64,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 24,
    "num_local_experts": 4,
}


def folder(path: Path, model_type: str, **settings: Any) -> Folder:
    tree = SIZES | {"model_type": model_type} | settings
    (path / "config.json").write_text(json.dumps(tree), encoding="utf-8")
    return Folder(path)


def test_the_published_form_of_gpt_oss_is_refused(tmp_path: Path):
    quantized = folder(tmp_path, "gpt_oss", quantization_config={"quant_method": "mxfp4"})
    with pytest.raises(ValueError, match=r"quantized \(mxfp4\).*convert them to bfloat16"):
        read_settings(quantized)


def test_blocks_of_four_bits_are_refused(tmp_path: Path):
    blocks = {"model.layers.0.mlp.experts.down_proj_blocks": torch.zeros(4, 2, dtype=torch.uint8)}
    save_file(blocks, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"down_proj_blocks is stored as U8.*quantized"):
        all_shapes(folder(tmp_path, "gpt_oss"))


def test_gpt_oss_without_rotary_parameters_is_not_guessed(tmp_path: Path):
    with pytest.raises(ValueError, match="rope_parameters is missing"):
        read_settings(folder(tmp_path, "gpt_oss"))


@pytest.mark.parametrize(
    "settings", [{"mlp_only_layers": [1]}, {"decoder_sparse_step": 2}, {"mlp_only_layers": [0, 2]}]
)
def test_only_first_layers_are_dense(settings: dict[str, Any], tmp_path: Path):
    with pytest.raises(ValueError, match=r"layer [0-2] without experts; in gptlab only first"):
        read_settings(folder(tmp_path, "qwen3_moe", **settings))
