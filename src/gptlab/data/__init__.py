"""Data: where text comes from (`sources`), how it is split and tokenized, how it is served.

`corpus.py` makes token ids of documents, `batches.py` makes batches of token ids.
"""

from gptlab.data.sources import Data as Data
