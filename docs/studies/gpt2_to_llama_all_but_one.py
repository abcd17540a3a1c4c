"""Which of the changes from GPT-2 to Llama carry the gain? All of them, but for one at a time.

The arm `all` is what the others are compared with: an arm `no_rope` that is worse says that RoPE
is needed among the others. The changes and sizes are those of `gpt2_to_llama.py`.
"""

from gptlab.compare.study import Study, Tuning

study = Study(
    name="gpt2_to_llama_all_but_one",
    base="shakespeare",
    settings=(
        "model.norm.bias=true",
        "model.attention.bias=true",
        "model.mlp.bias=true",
        "train.steps=1000",
    ),
    variants={
        "rope": ("model.positions=rotary",),
        "rms_norm": ("model.norm=rms_norm",),
        "swiglu": ("model.mlp=swiglu", "model.mlp.bias=true"),
        "untied": ("model.head=untied",),
        "gqa": ("model.attention.n_kv_heads=2",),
        "window": ("model.attention.window=32",),
        "bias_free": ("model.attention.bias=false", "model.mlp.bias=false"),
    },
    design="leave_one_out",
    seeds=(0, 1, 2, 3),
    match="params",
    tune=Tuning(lr=(1e-3, 2e-3, 4e-3), extensions=0),
)
