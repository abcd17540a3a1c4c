"""Which of the changes from GPT-2 to Llama carry the gain? Each by itself, on GPT-2.

The sizes are those of `shakespeare`, with GPT-2's biases, at half of its steps. Every arm has the
same number of parameters outside of embedding and head, and its own learning rate.
`gpt2_to_llama_all_but_one.py` asks the same of all changes but one.
"""

from gptlab.compare.study import Study, Tuning

GPT2 = (
    "model.norm.bias=true",
    "model.attention.bias=true",
    "model.mlp.bias=true",
    "train.steps=1000",
)

CHANGES = {
    "rope": ("model.positions=rotary",),
    "rms_norm": ("model.norm=rms_norm",),
    "swiglu": ("model.mlp=swiglu", "model.mlp.bias=true"),
    "untied": ("model.head=untied",),
    "gqa": ("model.attention.n_kv_heads=2",),
    "window": ("model.attention.window=32",),
    "bias_free": ("model.attention.bias=false", "model.mlp.bias=false"),
}

study = Study(
    name="gpt2_to_llama",
    base="shakespeare",
    settings=GPT2,
    variants=CHANGES,
    seeds=(0, 1, 2, 3, 4, 5),
    match="params",
    tune=Tuning(lr=(1e-3, 2e-3, 4e-3)),
)
