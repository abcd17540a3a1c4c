"""Which of the changes from GPT-2 to Llama carry the gain? All of them, but for one at a time.

The arm `all` is what the others are compared with: an arm `no-rope` that is worse says that RoPE
is needed among the others. The changes and sizes are those of `gpt2_to_llama.py`.
"""

from pathlib import Path

from gptlab.compare.reading import read_study
from gptlab.compare.study import Tuning

study = read_study(str(Path(__file__).with_name("gpt2_to_llama.py"))).but(
    name="gpt2_to_llama_all_but_one",
    question="",
    design="leave_one_out",
    seeds=(0, 1, 2, 3),
    tune=Tuning(lr=(1e-3, 2e-3, 4e-3), extensions=0),
)
