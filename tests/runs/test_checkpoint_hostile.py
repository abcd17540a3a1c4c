"""Checkpoints made to do harm: their manifests are right, their files are not."""

import json
import os
import struct
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from disk import forge, in_fork, save

from gptlab.runs import checkpoint

F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


def safetensors(header: object, data: bytes = b"", claimed: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if claimed is None else claimed) + text + data


def pickle_bomb(canary: Path) -> bytes:
    """A pickle that makes the canary file when it is loaded."""
    return f"cbuiltins\nopen\n(V{canary}\nVw\ntR.".encode()


def zipped(pickle: bytes) -> bytes:
    """A pickle as PyTorch's own files hold it."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle)
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


HEADERS = {
    "header of 2^63 bytes": safetensors(b"{}", claimed=2**63),
    "header of 2^64-1 bytes": safetensors(b"{}", claimed=2**64 - 1),
    "header longer than the file": safetensors(b"{}", claimed=1000),
    "header of 20 MB": safetensors(b"{" + b" " * 20_000_000 + b"}"),
    "header nested deeply": safetensors(b'{"a":' * 100_000),
    "header that is no JSON": safetensors(b"\xff\xfe"),
    "no header": b"",
    "seven bytes": b"1234567",
    "product of shape overflows": safetensors({"a": {**F32, "shape": [2**62, 2**62]}}, b"1234"),
    "shape beyond 64 bits": safetensors({"a": {**F32, "shape": [0, 2**64]}}, b"1234"),
    "negative shape": safetensors({"a": {**F32, "shape": [-1]}}, b"1234"),
    "10^12 elements": safetensors(
        {"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}, b"1234"
    ),
    "more elements than bytes": safetensors({"a": {**F32, "shape": [10**12]}}, b"1234"),
    "tensors that overlap": safetensors({"a": F32, "b": F32}, b"1234"),
    "bytes of no tensor": safetensors({"a": F32}, b"12345678"),
    "tensor of Python objects": safetensors({"a": {**F32, "dtype": "O"}}, b"1234"),
    "tensor of a type without arithmetic": safetensors(
        {"a": {"dtype": "F6_E2M3", "shape": [4], "data_offsets": [0, 3]}}, b"123"
    ),
}
STATES = {
    "pickled state": pickle_bomb(Path("canary")),
    "state nested deeply": b"[" * 1_000_000,
    "state of 5 MB": b'"' + b" " * 5_000_000 + b'"',
    "state that is a list": b"[]",
    "state with an endless number": b'{"step": ' + b"9" * 100_000 + b"}",
    "state that is no text": b"\xff",
}
MANIFESTS = {
    "a file outside": {"../../secret.safetensors": "secret.safetensors"},
    "an absolute path": {"/etc/passwd": "passwd"},
    "a pickle": {"model.pt": "model.pt"},
    "a program": {"model.py": "model.py"},
    "itself": {"MANIFEST.json": "MANIFEST.json"},
}


@pytest.mark.parametrize("case", HEADERS)
def test_tensors_that_cannot_be(tmp_path: Path, case: str):
    path = forge(tmp_path, 1, {"model.safetensors": HEADERS[case]})
    with pytest.raises(ValueError, match=r"step-00000001 is damaged: model\.safetensors"):
        checkpoint.load(path)


@pytest.mark.parametrize("case", STATES)
def test_states_that_cannot_be(tmp_path: Path, case: str):
    path = forge(tmp_path, 1, {"state.json": STATES[case]})
    with pytest.raises(ValueError, match="step-00000001 is damaged"):
        checkpoint.load(path)


@pytest.mark.parametrize("case", MANIFESTS)
def test_manifests_that_list_what_no_checkpoint_holds(tmp_path: Path, case: str):
    path = forge(tmp_path / "run" / "checkpoints", 1, {})
    manifest = json.loads((path / "MANIFEST.json").read_text())
    for listed in MANIFESTS[case]:
        manifest["files"][listed] = {"size": 0, "sha256": "0" * 64}
    (path / "MANIFEST.json").write_text(json.dumps(manifest, indent=1))
    with pytest.raises(ValueError, match=r"damaged: MANIFEST\.json"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b" " * 5_000_000,
        b'{"format": 2, "step": 1, "files": {}}',
        b'{"format": 1, "step": 1, "files": {}}',
        b'{"format": 1, "step": true, "files": {"state.json": 5}}',
        b'{"format": 1, "step": -1, "files": {"state.json": {"size": 2, "sha256": ""}}}',
        b'{"format": 1, "step": 1e0, "files": {"state.json": {"size": "2", "sha256": 3}}}',
    ],
)
def test_manifests_that_cannot_be(tmp_path: Path, manifest: bytes):
    path = forge(tmp_path, 1, {})
    (path / "MANIFEST.json").write_bytes(manifest)
    with pytest.raises(ValueError, match=r"damaged: MANIFEST\.json"):
        checkpoint.load(path)


@pytest.mark.parametrize("wrap", [bytes, zipped])
@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "MANIFEST.json"])
def test_a_pickle_under_another_name_does_not_run(tmp_path: Path, name: str, wrap):
    canary = tmp_path / "canary"
    bomb = pickle_bomb(canary)
    load = "import pickle, sys; pickle.load(sys.stdin.buffer)"
    subprocess.run([sys.executable, "-c", load], input=bomb, check=True)
    assert canary.exists()  # the bomb is live
    canary.unlink()
    path = forge(tmp_path, 1, {name: wrap(bomb)})
    if name == "MANIFEST.json":
        (path / name).write_bytes(wrap(bomb))
    with pytest.raises(ValueError, match="step-00000001 is damaged"):
        checkpoint.load(path)
    assert not canary.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="links need an administrator there")
def test_links_are_not_followed(tmp_path: Path):
    outside = save(tmp_path / "outside", 1)
    for name in ("model.safetensors", "state.json", "MANIFEST.json"):
        path = save(tmp_path / f"linked-{name}", 1)
        (path / name).unlink()
        (path / name).symlink_to(outside / name)
        with pytest.raises(ValueError, match=f"damaged: {name} is not a plain file"):
            checkpoint.load(path)
    link = tmp_path / "step-00000001"
    link.symlink_to(outside, target_is_directory=True)
    with pytest.raises(ValueError, match="is not a checkpoint's folder"):
        checkpoint.load(link)
    assert checkpoint.every(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path):
    path = save(tmp_path, 1)
    (path / "model.safetensors").unlink()
    os.mkfifo(path / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors is not a plain file"):
        checkpoint.load(path)


@pytest.mark.skipif(sys.platform == "win32", reason="links need an administrator there")
def test_pruning_removes_links_and_leaves_what_they_point_to(tmp_path: Path):
    outside = save(tmp_path / "outside", 1)
    folder = tmp_path / "checkpoints"
    damaged = save(folder, 1)
    (damaged / "model.safetensors").unlink()
    (damaged / "model.safetensors").symlink_to(outside / "model.safetensors")
    (folder / ".tmp-link").symlink_to(outside, target_is_directory=True)
    save(folder, 2)
    checkpoint.prune(folder, keep_last=1, best_step=None)
    assert [path.name for path in folder.iterdir()] == ["step-00000002"]
    checkpoint.load(outside)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limit on address space")
def test_nothing_is_allocated_for_what_is_only_claimed(tmp_path: Path):
    import resource

    def load_all() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * os.sysconf("SC_PAGE_SIZE") + 200_000_000
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for step, data in enumerate(HEADERS.values()):
            path = forge(tmp_path, step, {"model.safetensors": data})
            with pytest.raises(ValueError, match="damaged"):
                checkpoint.load(path)
        for step, data in enumerate(STATES.values(), start=100):
            path = forge(tmp_path, step, {"state.json": data})
            with pytest.raises(ValueError, match="damaged"):
                checkpoint.load(path)

    assert in_fork(load_all) == 0
