"""A data set read by Hugging Face `datasets` as a stream (extra: data): `hf:NAME[:CONFIG][:SPLIT]`.

NAME is one of the hub's, a folder of data files here, or one of the short names below. Spans count
the files that the data set consists of.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gptlab.data.extras import needed
from gptlab.data.formats import Format, Fragment, Reading, Span
from gptlab.data.formats._records import text_of
from gptlab.data.sources._files import files_below

PREFIX = "hf:"


class DataSet(NamedTuple):
    """What names a data set. `revision`: the commit that it is read at."""

    name: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None


SHORT_NAMES = {
    "openwebtext": DataSet("Skylion007/openwebtext"),
    "fineweb-edu": DataSet("HuggingFaceFW/fineweb-edu", "sample-10BT"),
    "wikitext": DataSet("Salesforce/wikitext", "wikitext-103-raw-v1"),
    "tinystories": DataSet("roneneldan/TinyStories"),
}


class Hub(Format):
    """`path` is the whole source, with the revision behind an @."""

    def fragments(self, span: Span, reading: Reading) -> Iterator[Fragment]:
        name, _, revision = span.path.rpartition("@")
        stream = _open(parse(name)._replace(revision=revision or None))
        if stream.num_shards > 1:
            stream = stream.shard(num_shards=stream.num_shards, index=span.start)
        try:
            for number, record in enumerate(stream, 1):
                where = f"{name}: record {number:,} of file {span.start + 1}"
                yield from text_of(record, where, reading)
        except ValueError:
            raise
        except Exception as error:  # of any library below: files, network, formats
            raise _explained(name, error) from None


def parse(source: str) -> DataSet:
    """Read `hf:NAME[:CONFIG][:SPLIT]`; one word after the name is a split if it is a usual one."""
    name, *more = source.removeprefix(PREFIX).split(":")
    if not name or len(more) > 2:
        raise ValueError(f"{source} is not of the form hf:NAME[:CONFIG][:SPLIT]")
    found = SHORT_NAMES.get(name, DataSet(name))
    if len(more) == 1 and more[0] in ("train", "validation", "test"):
        return found._replace(split=more[0])
    settings = dict(zip(("config", "split"), more, strict=False))
    return found._replace(**{key: value for key, value in settings.items() if value})


def local_files(source: str) -> list[Path]:
    """Find the files of a data set that is a folder here; none of one on the hub."""
    folder = Path(parse(source).name)
    return files_below(folder) if folder.is_dir() else []


def spans(source: str) -> list[tuple[Span, int]]:
    """Cut a data set into its files, whose sizes are not known: 0 stands for them."""
    data_set = parse(source)
    revision = None if Path(data_set.name).exists() else _newest_revision(source, data_set.name)
    n_files = _open(data_set._replace(revision=revision)).num_shards
    path = f"{source}@{revision or ''}"
    return [(Span("hub", path, i, i + 1), 0) for i in range(n_files)]


def _open(data_set: DataSet) -> Any:
    datasets = needed("datasets", "data", f"{PREFIX}{data_set.name}")
    try:
        return datasets.load_dataset(
            data_set.name,
            data_set.config,
            split=data_set.split,
            revision=data_set.revision,
            streaming=True,
        )
    except Exception as error:  # of any library below: no such name, no network, no such split
        raise _explained(f"{PREFIX}{data_set.name}", error) from None


def _newest_revision(source: str, name: str) -> str:
    """Ask the hub which commit is its newest, so that one preparation reads only one."""
    hub = needed("huggingface_hub", "data", source)
    try:
        return hub.HfApi().dataset_info(name).sha
    except Exception as error:  # no network, no such name, no permission
        raise _explained(source, error) from None


def _explained(source: str, error: Exception) -> ValueError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    return ValueError(f"{source}: cannot be read: {reason}")
