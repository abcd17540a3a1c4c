"""Speed and memory of `gptlab prepare`, beside the tokenizer library by itself.

    python benchmarks/prepare.py [--megabytes 100] [--vocab-size 8192] [--repeats 3]
    python benchmarks/prepare.py --megabytes 2000 --memory-only

The text: the Python standard library's sources, again and again, frequent words of each round
changed, as JSON lines. The library: `encode_batch_fast` of all documents at once, with a thread per
core, nothing read and nothing written; ratios are to the median of it. Preparing reads, encodes,
writes, hashes, and assembles shards, in a process per core. Cold: the file is dropped from the
system's cache before (Linux). Peak memory is that of the process and all its workers, sampled.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from gptlab import machine
from gptlab.data.sources.python import Python
from gptlab.tokenizer.bpe import BPE


def documents(n_bytes: int) -> Iterator[str]:
    """Give so many bytes of text, no two documents alike."""
    texts, number = Python().documents(), 0
    while True:
        for text in texts:
            changed = text.replace("self", f"self{number}").replace("return", f"return {number}")
            yield changed
            n_bytes -= len(changed.encode())
            if n_bytes <= 0:
                return
        number += 1


def resident(process: int) -> int:
    """Bytes of memory of a process and its children (Linux)."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(
                line.split(":", 1) for line in status.read_text().splitlines() if ":" in line
            )
        except OSError:
            continue
        if process in (int(fields["Pid"]), int(fields["PPid"])) and "VmRSS" in fields:
            total += int(fields["VmRSS"].split()[0]) * 1024
    return total


def prepare(source: Path, tokenizer: Path, out: Path, *more: str) -> tuple[float, int]:
    """Run the command; its seconds, and the most memory of it and its workers."""
    command = [sys.executable, "-m", "gptlab", "prepare", str(source), "--tokenizer"]
    command += [str(tokenizer), "--out", str(out), *more]
    began, peak = time.perf_counter(), 0
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, resident(child.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = child.wait()
    done.set()
    watcher.join()
    assert code == 0, f"exit code {code}"
    seconds = time.perf_counter() - began
    shutil.rmtree(out)
    return seconds, peak


def library(source: Path, tokenizer: Path) -> float:
    """Seconds of the library by itself, in a process of its own."""
    script = (
        "import json, sys, time\n"
        "from tokenizers import Tokenizer\n"
        "texts = [json.loads(line)['text'] for line in open(sys.argv[1], encoding='utf-8')]\n"
        "tokenizer = Tokenizer.from_file(sys.argv[2])\n"
        "tokenizer.encode_special_tokens = True\n"
        "began = time.perf_counter()\n"
        "tokenizer.encode_batch_fast(texts, add_special_tokens=False)\n"
        "print(time.perf_counter() - began)\n"
    )
    words = [sys.executable, "-c", script, str(source), str(tokenizer / "tokenizer.json")]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def drop_from_cache(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    parser = argparse.ArgumentParser(description="gptlab prepare beside the library alone.")
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory-only", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        source = folder / "text.jsonl"
        n_bytes = options.megabytes * 1_000_000
        with source.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in documents(n_bytes))
        BPE(vocab_size=options.vocab_size).train(list(documents(5_000_000))).save(folder / "tok")
        print(f"{machine.cpu_name()}, {machine.usable_cores()} cores, {options.megabytes} MB")
        if options.memory_only:
            seconds, peak = prepare(source, folder / "tok", folder / "out")
            print(f"{seconds:.1f} s, peak memory {peak / 1e6:,.0f} MB")
            return
        alone = [library(source, folder / "tok") for _ in range(options.repeats)]
        base = statistics.median(alone)
        print("| what | seconds | MB/s | speed, as a ratio to the library | peak memory, MB |")
        print("|---|---|---|---|---|")
        print(f"| the library alone | {base:.1f} | {n_bytes / 1e6 / base:.2f} | 1 | |")
        for name, cold in (("prepare, warm", False), ("prepare, cold", True)):
            found = []
            for _ in range(options.repeats):
                if cold and hasattr(os, "posix_fadvise"):
                    drop_from_cache(source)
                found.append(prepare(source, folder / "tok", folder / "out"))
            seconds = statistics.median(seconds for seconds, _ in found)
            peak = max(peak for _, peak in found)
            ratio = f"{base / seconds:.2f} | {peak / 1e6:,.0f}"
            print(f"| {name} | {seconds:.1f} | {n_bytes / 1e6 / seconds:.2f} | {ratio} |")


if __name__ == "__main__":
    main()
