"""Validation bits per byte at the end of the schedule, which no tokenizer can flatter."""

from gptlab.compare.metrics import MeasuredRun, Metric


class BitsPerByte(Metric):
    """The whole validation set, every byte of it once."""

    title = "validation bits per byte"
    unit = "bits/byte"

    def measure(self, measured: MeasuredRun) -> float | None:
        return measured.at_end("bits_per_byte")
