"""The tokenizers library, called directly: `encode_batch`, which tells places in the text too."""

from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer


def tokenize(job: dict[str, Any], beat: Any, method: str = "encode_batch") -> None:
    """Encode all documents at once."""
    tokenizer: Any = Tokenizer.from_file(str(Path(job["tokenizer"]) / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    documents = Path(job["documents"]).read_text(encoding="utf-8").split("\0")
    encode = getattr(tokenizer, method)
    ids = [np.array(each.ids) for each in encode(documents, add_special_tokens=False)]
    places = (each * np.arange(1, len(each) + 1) for each in ids)
    checksum = int(sum(each.sum() for each in places))
    beat.ready(job["megabytes"], tokens=sum(map(len, ids)), checksum=checksum)
    while True:
        for each in encode(documents, add_special_tokens=False):
            _ = each.ids
        beat()
