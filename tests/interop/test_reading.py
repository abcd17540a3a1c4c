"""Folders that are not what they say, or would do harm, are refused in one line with the cause."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from folders import change_json, equal, llama, write_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from gptlab.interop import reading, writing
from gptlab.interop.folder import Folder
from gptlab.interop.matching import choose_family
from gptlab.interop.reading import read_settings, read_weights
from gptlab.interop.writing import write_config
from gptlab.model.gpt import GPT, Model
from gptlab.model.memory import StorageCounter
from gptlab.recipes import open_recipe

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
QUERY = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path / "theirs", llama())
    return tmp_path / "theirs"


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(writing, "SHARD_BYTES", 8_000)
    write_model(tmp_path / "shards", llama())
    return tmp_path / "shards"


def read(folder: Path) -> tuple[Model, GPT]:
    family, model = read_settings(Folder(folder))
    return model, read_weights(Folder(folder), family, model)


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def assert_refused(folder: Path, *words: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the words are what matters)
        read(folder)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_shards_are_read_as_one_file_is(folder: Path, shards: Path):
    assert len(list(shards.glob("*.safetensors"))) > 3
    index = json.loads((shards / INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(
        4 * x.numel() for x in load_file(folder / WEIGHTS).values()
    )
    assert equal(read(shards)[1], read(folder)[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_numbers_are_read_as_float32(folder: Path, dtype: torch.dtype):
    def cast(tensors: dict[str, Tensor]) -> None:
        tensors.update({name: x.to(dtype) for name, x in tensors.items()})

    change_weights(folder, cast)
    _, gpt = read(folder)
    assert gpt.embedding.weight.dtype == torch.float32
    expected = load_file(folder / WEIGHTS)["model.embed_tokens.weight"].float()
    assert torch.equal(gpt.embedding.weight, expected)


@pytest.mark.parametrize("has_head", [True, False])
def test_a_tied_head_may_be_there_or_not(tmp_path: Path, has_head: bool):
    gpt = write_model(tmp_path, llama(head="tied"))
    if has_head:
        change_weights(tmp_path, lambda x: x.update({"lm_head.weight": torch.ones(300, 16)}))
    assert equal(read(tmp_path)[1], gpt)


def test_a_body_without_a_prefix_and_with_old_buffers(tmp_path: Path):
    """As the files of the first GPT-2s are."""
    learned = {"positions": "learned", "norm": "layer_norm", "head": "tied"}
    attention = {"type": "grouped_query", "n_heads": 4, "bias": True}
    model = llama(**learned, attention=attention, mlp={"type": "gelu", "bias": True})
    gpt = write_model(tmp_path, model)

    def age(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        tensors["h.0.attn.bias"] = torch.ones(1, 1, 16, 16)

    change_weights(tmp_path, age)
    assert equal(read(tmp_path)[1], gpt)


def test_reading_needs_the_model_and_one_tensor(tmp_path: Path):
    gpt = write_model(tmp_path, llama(n_layers=6, d_model=64, mlp={"type": "swiglu", "d_ff": 256}))
    sizes = [4 * x.numel() for x in gpt.state_dict().values()]
    family, model = read_settings(Folder(tmp_path))
    with StorageCounter() as counter:
        read_weights(Folder(tmp_path), family, model)
    assert sum(sizes) <= counter.peak <= sum(sizes) + max(sizes)
    assert max(sizes) < sum(sizes) / 8


def test_reading_all_tensors_at_once_would_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    gpt = write_model(tmp_path, llama())
    family, model = read_settings(Folder(tmp_path))
    lazily = reading.every_tensor
    monkeypatch.setattr(reading, "every_tensor", lambda folder: list(lazily(folder)))
    sizes = [4 * x.numel() for x in gpt.state_dict().values()]
    with StorageCounter() as counter:
        read_weights(Folder(tmp_path), family, model)
    assert counter.peak > sum(sizes) + 2 * max(sizes)


def test_a_missing_an_unknown_and_a_misshapen_tensor(folder: Path):
    change_weights(folder, lambda x: x.pop(QUERY))
    assert_refused(folder, f"{QUERY} is missing")
    change_weights(folder, lambda x: x.update({QUERY: torch.ones(24, 17)}))
    assert_refused(folder, f"{QUERY} is (24, 17), not (24, 16)")
    change_weights(folder, lambda x: x.update({QUERY: torch.ones(24, 16), "extra": torch.ones(1)}))
    assert_refused(folder, "extra is not in a llama model")


def test_numbers_of_another_kind(folder: Path):
    change_weights(folder, lambda x: x.update({QUERY: torch.ones(24, 16, dtype=torch.int8)}))
    assert_refused(folder, QUERY, "stored as I8", "quantized")


def test_a_pickle_is_not_opened(folder: Path):
    (folder / WEIGHTS).unlink()
    assert_refused(folder, "no weights")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04\x95")
    assert_refused(folder, "pytorch_model.bin is a pickle", "safetensors")


@pytest.mark.parametrize(
    "name",
    ["../theirs/model.safetensors", "/etc/passwd", "a/b.safetensors", "x.bin", "..\\x.safetensors"],
)
def test_an_index_that_leads_elsewhere(shards: Path, name: str):
    change_json(shards / INDEX, weight_map={QUERY: name})
    assert_refused(shards, INDEX, "not the name of a safetensors file beside it")


def test_an_index_without_its_files(shards: Path):
    next(shards.glob("*.safetensors")).unlink()
    assert_refused(shards, "is missing", INDEX)
    (shards / INDEX).write_text('{"weight_map": [1]}')
    assert_refused(shards, INDEX, "damaged")


def test_a_tensor_in_two_files(shards: Path):
    first, second, *_ = sorted(shards.glob("*.safetensors"))
    save_file(load_file(first) | load_file(second), second)
    assert_refused(shards, second.name, "in another file, too")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"{", "damaged"),
        (b"\xff", "damaged"),
        (b"[]", "no object"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_damaged_config(folder: Path, content: bytes, word: str):
    (folder / "config.json").write_bytes(content)
    assert_refused(folder, "config.json", word)


def test_damaged_weights(folder: Path):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:-100])
    assert_refused(folder, WEIGHTS, "damaged")
    (folder / WEIGHTS).write_bytes(b"")
    assert_refused(folder, WEIGHTS, "damaged")


def test_no_folder_and_no_model(tmp_path: Path):
    assert_refused(tmp_path / "absent", "is not a folder")
    assert_refused(tmp_path, "no config.json")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "lama"}, ["model_type=lama", "did you mean 'llama'"]),
        ({"model_type": ["llama"]}, ["model_type", "not of type str"]),
        ({"hidden_size": None}, ["hidden_size is missing"]),
        ({"hidden_size": "wide"}, ['hidden_size="wide"', "not of type int"]),
        ({"hidden_size": -4}, ["hidden_size=-4", "greater than 0"]),
        ({"head_dim": -4}, ["head_dim=-4", "greater than 0"]),
        ({"num_attention_heads": 0}, ["num_attention_heads=0"]),
        ({"num_hidden_layers": 10**9}, ["n_layers", "1000"]),
        ({"rms_norm_eps": float("nan")}, ["rms_norm_eps=nan"]),
        ({"rms_norm_eps": float("inf")}, ["eps", "finite"]),
        ({"hidden_act": "gelu"}, ['hidden_act="gelu"', '"silu"']),
        ({"mup_scale": 3.5}, ["mup_scale=3.5", "not a setting that gptlab knows"]),
        ({"quantization_config": {"bits": 4}}, ["quantization_config"]),
        ({"rope_parameters": {"rope_type": "magic"}}, ["rope_type=magic", "linear"]),
        ({"rope_parameters": {"rope_type": "yarn", "spiral": 1}}, ["rope_parameters", "spiral"]),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, ["partial_rotary_factor=0.5"]),
    ],
)
def test_a_config_that_is_not_understood(
    folder: Path, changes: dict[str, object], words: list[str]
):
    change_json(folder / "config.json", **changes)
    assert_refused(folder, "config.json", *words)


def test_rope_as_it_was_written_once(folder: Path):
    scaling = {"type": "linear", "factor": 2.0}
    change_json(folder / "config.json", rope_parameters=None, rope_theta=5e5, rope_scaling=scaling)
    positions = read(folder)[0].positions
    assert positions.model_dump() == {
        "type": "rotary",
        "base": 5e5,
        "layout": "half",
        "fraction": 1.0,
        "proportional": False,
        "scaling": {"type": "linear", "factor": 2.0},
    }


@pytest.mark.parametrize(
    ("recipe", "changes", "words"),
    [
        (
            "deepseek_v3_nano",
            {"first_k_dense_replace": 10**9},
            ["first_k_dense_replace=1000000000"],
        ),
        ("gemma3_nano", {"layer_types": [[["x"]]]}, ["layer_types names 1 layers of [['x']]"]),
        ("gemma3_nano", {"rope_parameters": {"full_attention": 5}}, ["full_attention=5", "dict"]),
    ],
)
def test_a_family_s_own_settings(
    tmp_path: Path, recipe: str, changes: dict[str, object], words: list[str]
):
    family, config = choose_family(open_recipe(recipe).with_vocab_size(300).model)
    write_config(tmp_path, family, config | changes)
    assert_refused(tmp_path, "config.json", *words)


def test_weights_that_are_a_folder(folder: Path):
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()
    assert_refused(folder, f"{folder / WEIGHTS}: cannot be read (")
