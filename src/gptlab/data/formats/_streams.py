"""Opening files, plain or compressed, so that one that is cut short is never taken for whole."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from gptlab.data.extras import needed

BOM = b"\xef\xbb\xbf"
CHUNK = 2**18
BUFFER = 2**16
FEED = 2**10  # compressed bytes at a time: zstd may make 30,000 of each


@contextmanager
def open_stream(path: str) -> Iterator[BinaryIO]:
    """Open a file for reading what it holds; errors on the way become ValueErrors naming it."""
    try:
        with (
            io.BufferedReader(MeteredFile(path), BUFFER) as file,
            _unpacked(path, file) as stream,
        ):
            yield stream
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged or cut short: {error}") from None
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None


def chunks(stream: BinaryIO, length: int | None = None) -> Iterator[bytes]:
    """Read `length` bytes, or all there are, in pieces."""
    while length is None or length > 0:
        chunk = stream.read(CHUNK if length is None else min(CHUNK, length))
        if not chunk:
            return
        yield chunk
        length = None if length is None else length - len(chunk)


def bom_length(stream: BinaryIO) -> int:
    """Move a stream that is at its start behind a byte order mark; how long that was."""
    is_there = cast(io.BufferedReader, stream).peek(len(BOM)).startswith(BOM)
    return len(stream.read(len(BOM))) if is_there else 0


class Meter:
    """Counts the bytes that this process has read from files: what an estimate is based on."""

    n_bytes = 0


class MeteredFile(io.FileIO):
    """A file whose reading is counted."""

    def readinto(self, buffer: Any) -> int | None:
        n_bytes = super().readinto(buffer)
        Meter.n_bytes += n_bytes or 0
        return n_bytes


def _unpacked(path: str, file: BinaryIO) -> BinaryIO:
    if path.lower().endswith(".gz"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    if path.lower().endswith(".zst"):
        return io.BufferedReader(ZstdReader(path, file), CHUNK)
    return file


class ZstdReader(io.RawIOBase):
    """Frames of zstandard, one after the other; unlike the library's, it tells a missing end."""

    def __init__(self, path: str, file: BinaryIO):
        self.zstandard: Any = needed("zstandard", "data", f"{path} is compressed by zstandard")
        self.file = file
        self.frame: Any = None
        self.ready, self.fed = memoryview(b""), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.ready:
            self.fed = self.fed or self.file.read(FEED)
            if not self.fed:
                if self.frame is not None:
                    raise EOFError("a frame has no end")
                return 0
            self._decompress()
        n = min(len(buffer), len(self.ready))
        buffer[:n] = self.ready[:n]
        self.ready = self.ready[n:]
        return n

    def _decompress(self) -> None:
        if self.frame is None:
            self.frame = self.zstandard.ZstdDecompressor().decompressobj()
        try:
            self.ready = memoryview(self.frame.decompress(self.fed))
        except self.zstandard.ZstdError as error:
            raise EOFError(str(error)) from None
        self.fed = b""
        if self.frame.eof:
            self.fed, self.frame = self.frame.unused_data, None
