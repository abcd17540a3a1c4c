"""What schemes share that know how long the texts were before the context was extended."""

from pydantic import PositiveInt

from gptlab.parts.scaling import Factor, Scaling


class Extension(Scaling):
    """`factor` times longer than `original_length` tokens; null: context_length / factor."""

    factor: Factor
    original_length: PositiveInt | None = None

    def length_before(self, context_length: int) -> float:
        """The context length of training, before the extension."""
        return self.original_length or context_length / self.factor
