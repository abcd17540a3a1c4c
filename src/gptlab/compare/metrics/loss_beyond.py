"""Loss beyond the context of training: does a model read longer texts than those it learnt from?

The validation text is read in windows of `factor` contexts, and only what stands beyond the first
one counts. Windows overlap by one context, so that each token after the first context counts once.
"""

import numpy as np
from pydantic import Field

from gptlab.compare.metrics._kept import Hear, Kept
from gptlab.compare.texts import Facts, text_of
from gptlab.evaluate.validation import bits_per_byte
from gptlab.files import digest
from gptlab.generate import load
from gptlab.probes.reading import loss_beyond
from gptlab.runs.folder import RunFolder
from gptlab.runs.manifest import MANIFEST, folder_name
from gptlab.train.recipe import Recipe


class LossBeyond(Kept):
    """`factor`: how many contexts a window has. A model without vectors there has no value."""

    title = "bits per byte beyond the context"
    unit = "bits/byte"
    lost_means = "without positions there"

    factor: int = Field(2, ge=2)

    @property
    def label(self) -> str:
        return f"{self.variant}({self.factor})"

    @property
    def heading(self) -> str:
        return f"{self.title}, up to {self.factor} times as far"

    def check(self, recipe: Recipe, facts: Facts) -> None:
        needed = self.factor * recipe.model.context_length
        if facts.val_tokens < needed:
            raise ValueError(
                f"{self.label} reads {needed:,} tokens in a row, and the validation text has "
                f"{facts.val_tokens:,}: give more text, or a smaller factor"
            )

    def follows_from(self, run: RunFolder) -> dict[str, str]:
        manifest = run.checkpoints / folder_name(_last(run)) / MANIFEST
        if not manifest.exists():
            raise ValueError(
                f"{self.label}: {run.path} has lost the checkpoint of its end; remove that folder, "
                "and the run is made again"
            )
        return {"checkpoint": digest(manifest)}

    def compute(self, run: RunFolder, hear: Hear) -> float | None:
        gpt = load(run.path, str(_last(run))).model
        corpus = text_of(run)
        tokens = np.asarray(corpus.val)
        loss = loss_beyond(gpt, tokens, self.factor, hear)
        return None if loss is None else bits_per_byte(loss, len(tokens) - 1, corpus.val_bytes)


def _last(run: RunFolder) -> int:
    return run.status()["step"]
