"""From the tokens of one sample to text that may be shown at once.

What is shown is never taken back: the bytes of an incomplete character wait for the rest of it,
and what may be the beginning of a stop string waits until it is known not to be.
"""

import codecs
from collections.abc import Sequence

from gptlab.tokenizer import Encoder


class TextStream:
    """Collects the tokens of a sample and gives out its text, piece by piece.

    The pieces together are what decoding all tokens gives, up to the end-of-text token or to the
    stop string that is complete first, neither of which is shown; `done` says that one came.
    """

    def __init__(self, tokenizer: Encoder, stops: Sequence[str]):
        self.tokenizer, self.stops = tokenizer, stops
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.held = ""
        self.done = False

    def push(self, token: int) -> str:
        """Take the next token; return the text that is now certain."""
        if self.done:
            return ""
        if token == self.tokenizer.end_of_text:
            return self.close()
        text = self.decoder.decode(self.tokenizer.bytes_of(token))
        if not self.stops:
            return text
        self.held += text
        return self._release(self._beginning_of_a_stop())

    def close(self) -> str:
        """Say that no token follows; return the text that was held back."""
        if self.done:
            return ""
        self.held += self.decoder.decode(b"", final=True)
        text = self._release(0)
        self.done = True
        return text

    def _release(self, n_waiting: int) -> str:
        """Give out the held text but for its last characters, or what precedes a stop string."""
        found = [
            (start + len(stop), start)
            for stop in self.stops
            if (start := self.held.find(stop)) >= 0
        ]
        end = min(found)[1] if found else len(self.held) - n_waiting
        self.done = bool(found)
        text, self.held = self.held[:end], self.held[end:]
        return text

    def _beginning_of_a_stop(self) -> int:
        """Count the last characters that may turn out to be the beginning of a stop string."""
        lengths = (
            length
            for stop in self.stops
            for length in range(1, len(stop))
            if self.held.endswith(stop[:length])
        )
        return max(lengths, default=0)
