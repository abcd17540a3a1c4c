"""Tokens trained on per second, over the whole run; evaluation is not counted."""

from gptlab.compare.metrics import MeasuredRun, Metric


class TokensPerSecond(Metric):
    """What the machine did beside it counts against it: see `--jobs`."""

    title = "training speed"
    unit = "tokens/s"
    better = "higher"
    scale = "ratio"
    depends_on_time = True

    def measure(self, measured: MeasuredRun) -> float | None:
        last = measured.lines[-1] if measured.lines else None
        return last["tokens"] / last["seconds"] if last and last["seconds"] else None
