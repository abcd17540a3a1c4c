"""Validation loss at the end of the schedule; comparable between arms with one tokenizer."""

from gptlab.compare.metrics import MeasuredRun, Metric


class ValLoss(Metric):
    """The mean over the whole validation set."""

    title = "validation loss"
    unit = "nats/token"
    per_token = True

    def measure(self, measured: MeasuredRun) -> float | None:
        return measured.at_end("val_loss")
