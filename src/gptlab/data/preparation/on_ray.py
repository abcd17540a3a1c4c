"""The same pieces on a Ray cluster (extra: ray).

The source and the out folder must lie where every machine of the cluster finds them under the same
path. Parts, and so shards and manifest, are the same bytes as without Ray.
"""

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from gptlab.data.extras import needed
from gptlab.data.preparation.part import Mark, Progress, Work, make_part
from gptlab.data.preparation.pools import Events
from gptlab.data.preparation.source import Piece
from gptlab.tokenizer import open_encoder


def on_ray(work: Work, pieces: Iterator[Piece], tokenizer: Path, address: str) -> Events:
    """Do pieces on a cluster; `local` starts one on this machine. A lost task is done again."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray = needed("ray", "ray", f"--ray={address}")
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, include_dashboard=False if address == "local" else None)
    except (ConnectionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"--ray={address}: no such cluster: {reason}") from None
    try:
        task = ray.remote(max_retries=3)(_make_part)
        folder = str(Path(work.folder).resolve())
        arguments = (replace(work, folder=folder), str(tokenizer.resolve()))
        most = 2 * int(ray.cluster_resources().get("CPU", 1))  # so many wait for their turn
        running = {}
        while True:
            while len(running) < most and (piece := next(pieces, None)) is not None:
                running[task.remote(*arguments, piece)] = piece.number
            if not running:
                return
            (done,), _ = ray.wait(list(running))
            number = running.pop(done)
            try:
                mark, told = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            yield from told
            yield number, mark
    finally:
        ray.shutdown()
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray takes SIGTERM, and would keep it


def _make_part(work: Work, tokenizer: str, piece: Piece) -> tuple[Mark, list[Progress]]:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    told: list[Progress] = []
    encoder = open_encoder(tokenizer)
    return make_part(work, piece, encoder, told.append), told
