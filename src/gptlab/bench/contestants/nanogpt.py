"""nanoGPT, as a checkout of it stands: its `train.py` is run by its own rules, unchanged.

It prints a line for each step; there it is paced. Options are those that its README gives for a
CPU, beside the sizes; in a race its settings for tiny Shakespeare are left as they are.
"""

import os
import pickle
import re
import runpy
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from gptlab.bench.contestants._rows import device_of, tokens_of
from gptlab.bench.contestants._scoring import score

CONFIG = "config/train_shakespeare_char.py"
STEP = re.compile(r"^iter \d+: loss ([\d.]+|nan|inf),")


class Lines(StringIO):
    """Its standard output: each line that tells a step is one."""

    def __init__(self, after_step: Callable[[Callable[[], float]], None]):
        super().__init__()
        self.after_step = after_step

    def write(self, text: str) -> int:
        """Look at what is printed, and keep nothing."""
        told = STEP.match(text)
        if told:
            self.after_step(lambda: float(told[1]))
        return len(text)


def train(job: dict[str, Any], beat: Any) -> None:
    """Run train.py; the model that it made is found where a script's names are."""
    checkout = _enter(job)
    data = Path(job["folder"])
    tokens_of(job).tofile(data / "train.bin")
    (data / "val.bin").write_bytes(Path(job["val"]).read_bytes())
    (data / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": job["vocab_size"]}))
    is_ready = False

    def after_step(loss: Callable[[], float]) -> None:
        nonlocal is_ready
        if not is_ready:
            is_ready = True
            _ready(job, beat)
        beat(loss)

    _shift_seeds(job["seed"])
    sys.argv = ["train.py", CONFIG, *_options(job, data)]
    with redirect_stdout(Lines(after_step)):
        runpy.run_path(str(checkout / "train.py"), run_name="__main__")


def generate(job: dict[str, Any], beat: Any) -> None:
    """Write with its model's own `generate`."""
    _enter(job)
    model_file: Any = __import__("model")
    torch.manual_seed(job["seed"])
    with redirect_stdout(StringIO()):
        model = model_file.GPT(model_file.GPTConfig(**_sizes(job))).to(device_of(job)).eval()
    n, length, rows = job["prompt"], job["tokens"], job["rows"]
    prompt_BT = torch.ones(rows, n, dtype=torch.long, device=device_of(job))
    beat.ready(length * rows, parameters=sum(p.numel() for p in model.parameters()))
    while True:
        with torch.no_grad():
            ids_BT = model.generate(prompt_BT, length, temperature=0.8, top_k=50)
        assert ids_BT.shape == (rows, n + length)
        beat()


def _enter(job: dict[str, Any]) -> Path:
    checkout = Path(job["nanogpt"]).resolve()
    os.chdir(checkout)
    sys.path.insert(0, str(checkout))
    return checkout


def _sizes(job: dict[str, Any]) -> dict[str, Any]:
    return {
        "block_size": job["context_length"],
        "n_layer": job["n_layers"],
        "n_head": job["n_heads"],
        "n_embd": job["d_model"],
        "dropout": job["dropout"],
        "bias": job["bias"],
        "vocab_size": job["vocab_size"],
    }


def _options(job: dict[str, Any], data: Path) -> list[str]:
    on_cpu = device_of(job).type == "cpu"
    options = {name: value for name, value in _sizes(job).items() if name != "vocab_size"}
    options |= {"batch_size": job["rows"], "dataset": str(data), "out_dir": str(data / "out")}
    options |= {"log_interval": 1, "max_iters": job["steps"], "eval_iters": 20}
    if on_cpu:
        options |= {"device": "cpu", "compile": False}
    if "race" in job:
        options["lr_decay_iters"] = job["steps"]
    else:
        options |= {"eval_interval": 10**12, "eval_iters": 1, "decay_lr": False}
        options |= {"learning_rate": job["lr"], "beta2": job["betas"][1]}
        options |= {"weight_decay": job["weight_decay"], "grad_clip": float(job["grad_clip"])}
    return [f"--{name}={value}" for name, value in options.items()]


def _ready(job: dict[str, Any], beat: Any) -> None:
    script: Any = sys.modules["__main__"]
    model = script.model
    beat.ready(
        job["rows"] * job["context_length"],
        parameters=sum(p.numel() for p in model.parameters()),
        precision="float32" if script.device_type == "cpu" else script.dtype,
        compiled=bool(script.compile),
        score=partial(score, model, lambda x_BT, y_BT: model(x_BT, y_BT)[0], job),
    )


def _shift_seeds(by: int) -> None:
    """Let the one seed that the script has differ from run to run."""
    seed = torch.manual_seed
    torch.manual_seed = lambda number: seed(number + by)  # pyright: ignore
