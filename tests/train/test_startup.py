"""What is not done before the first step: nothing that can wait may hold it up."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from gptlab.train.recipe import Recipe

CAN_WAIT = {
    *("torch._dynamo", "torch._inductor", "sympy"),
    *("tensorboard", "torch.utils.tensorboard", "wandb"),
    *("matplotlib", "scipy", "tokenizers", "transformers", "datasets", "pyarrow", "ray"),
    *("gptlab.show", "gptlab.interop", "gptlab.model.memory"),
}
TRAIN_UNTIL_THE_FIRST_STEP = """
import sys
from gptlab import cli, machine
from gptlab.train import report

def stop(self):
    measured = machine.product_speed.cache_info().misses
    print(self.s.step, measured, *sys.modules, sep="\\n")
    sys.exit(0)

report.Report.progress = stop
cli.main(sys.argv[1:])
"""


def test_the_first_step_waits_for_nothing(
    tiny_recipe: Callable[..., Recipe], text_file: Path, tmp_path: Path
):
    (tmp_path / "mine.yaml").write_text(tiny_recipe("train.tensorboard=true").to_yaml())
    done = subprocess.run(
        [sys.executable, "-c", TRAIN_UNTIL_THE_FIRST_STEP, "train", "mine.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    step, measured, *modules = done.stdout.splitlines()
    assert step == "1"
    assert measured == "0", "no product is measured where precision is given"
    assert "torch" in modules
    assert sorted(CAN_WAIT.intersection(modules)) == []
