"""Training a BPE of 8,192 tokens, beside the library called directly.

    python benchmarks/tokenizer.py [--megabytes 100] [--runs 3]

The text is that of `gptlab bench tokenizer`, which measures encoding. Both sides take turns in one
process; ratios are of medians, above 1 where gptlab is slower.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from gptlab import machine
from gptlab.bench.encoding import make_text
from gptlab.tokenizer.bpe import BPE

VOCAB_SIZE = 8192


def train_directly(documents: list[str]) -> Tokenizer:
    """What one would write without gptlab."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        min_frequency=2,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return tokenizer


def medians(runs: int, *functions: Callable[[], object]) -> list[float]:
    """Time functions in turns."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(runs):
        for function, seconds in zip(functions, times, strict=True):
            began = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - began)
    return [statistics.median(seconds) for seconds in times]


def main() -> None:
    parser = argparse.ArgumentParser(description="A BPE beside the library called directly.")
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    documents = make_text(options.megabytes * 10**6)
    megabytes = sum(len(document.encode()) for document in documents) / 1e6
    print(f"{machine.cpu_name()}, {machine.usable_cores()} cores; {megabytes:.0f} MB of text")
    settings = BPE(vocab_size=VOCAB_SIZE)
    ours, theirs = medians(
        options.runs, lambda: settings.train(documents), lambda: train_directly(documents)
    )
    print(f"training: {ours:.2f} s, the library {theirs:.2f} s: {ours / theirs:.3f} of its time")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
