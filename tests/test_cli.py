"""The command line: what a stranger types, and what comes back."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gptlab import cli

Command = Callable[..., tuple[int, str, str]]

TINY = (
    "model.context_length=8",
    "model.d_model=16",
    "model.n_layers=1",
    "model.attention.n_heads=2",
    "train.batch_tokens=32",
    "train.steps=4",
    "train.sample_tokens=8",
    "train.precision=float32",
    "train.tensorboard=false",
)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "input.txt"
    path.write_text("ROMEO: what light through yonder window breaks\n" * 20, encoding="utf-8")
    return path


@pytest.fixture
def gptlab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run a command in an empty folder; give its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main([str(word) for word in words])
        out, err = capsys.readouterr()
        code = end.value.code
        return (code if isinstance(code, int) else int(code is not None)), out, err

    return run


def assert_mistake(result: tuple[int, str, str], *fragments: str) -> None:
    """The user's mistake: exit code 2, one line, no traceback, with these words in it."""
    code, _, err = result
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2, err
    assert len(lines) == 1, err
    assert "Traceback" not in err
    for fragment in fragments:
        assert fragment in lines[0]


def test_help_imports_no_torch():
    script = (
        "import sys, gptlab.cli\n"
        "try: gptlab.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules\n"
        "import gptlab\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    verbs = ["train", "resume", "show", "diff", "parts", "recipes", "runs", "generate", "doctor"]
    assert all(f"\n  {verb} " in done.stdout for verb in verbs)


def test_from_text_to_samples(gptlab: Command, text: Path, tmp_path: Path):
    code, out, err = gptlab("train", "shakespeare", f"data.path={text}", *TINY, "name=mine")
    assert code == 0, err
    assert "A sample of what it writes now" in out
    assert "step 4/4" in err
    run = tmp_path / "runs" / "mine"
    assert {path.name for path in run.iterdir()} >= {
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "samples.txt",
        "tokenizer",
        "checkpoints",
    }
    assert (run / "checkpoints" / "step-00000004" / "model.safetensors").is_file()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    keys = "step tokens seconds train_loss val_loss perplexity bits_per_byte lr grad_norm"
    assert all(
        set(line) >= {*keys.split(), "tokens_per_second", "model_flops_utilization"}
        for line in lines
    )

    options = ("--max-tokens", 30, "--temperature", 0.8, "--top-k", 5, "--seed", 1)
    first = gptlab("generate", run, "--prompt", "ROMEO:", *options)
    assert first[0] == 0
    assert first[1].startswith("ROMEO:")
    assert gptlab("generate", run, "--prompt", "ROMEO:", *options) == first
    code, out, _ = gptlab("generate", run, "-n", 3, "--max-tokens", 5)
    assert code == 0
    assert out.count("--- sample") == 3

    code, out, _ = gptlab("runs", "--json")
    (row,) = json.loads(out)
    assert (row["run"], row["recipe"], row["state"]) == ("mine", "shakespeare", "done")
    assert row["tokens"] == 4 * 32
    assert "mine" in gptlab("runs")[1]

    assert gptlab("resume", run)[0] == 0
    moved = tmp_path / "elsewhere"
    run.rename(moved)
    assert gptlab("generate", moved, "--max-tokens", 5)[0] == 0


def test_dry_run_trains_nothing(gptlab: Command, tmp_path: Path):
    code, out, _ = gptlab("train", "gpt2", "--dry-run", "model.positions=rotary")
    assert code == 0
    assert "positions:\n    type: rotary" in out
    assert re.search(r"total +123,653,376", out)
    assert not (tmp_path / "runs").exists()


def test_show_as_json(gptlab: Command):
    code, out, _ = gptlab("show", "gpt2", "--json")
    assert code == 0
    assert json.loads(out)["parameters"]["total"] == 124_439_808


def test_settings_may_begin_with_dashes(gptlab: Command):
    code, out, _ = gptlab("show", "gpt2", "--model.norm=rms_norm", "--json")
    assert code == 0
    assert json.loads(out)["config"]["model"]["norm"]["type"] == "rms_norm"


def test_diff_parts_recipes_doctor(gptlab: Command, text: Path):
    code, out, _ = gptlab("diff", "gpt2", "norm")
    assert code == 0
    assert all(word in out for word in ("model.positions.type", "learned", "rotary", "swiglu"))
    assert gptlab("train", "shakespeare", f"data.path={text}", *TINY)[0] == 0
    code, out, _ = gptlab("diff", "runs/shakespeare", "shakespeare")
    assert code == 0
    assert "model.d_model" in out
    assert "grouped_query" in gptlab("parts")[1]
    assert "n_kv_heads" in gptlab("parts", "attention")[1]
    assert "quickstart" in gptlab("recipes")[1]
    assert "torch" in gptlab("doctor")[1]


def test_runs_are_never_overwritten(gptlab: Command, text: Path, tmp_path: Path):
    command = ("train", "shakespeare", f"data.path={text}", *TINY)
    assert gptlab(*command)[0] == 0
    assert gptlab(*command)[0] == 0  # an unnamed run takes a free name
    assert (tmp_path / "runs" / "shakespeare-2").is_dir()
    assert gptlab(*command, "name=a")[0] == 0
    assert_mistake(gptlab(*command, "name=a"), "runs/a", "gptlab resume", "name=")


MISTAKES = {
    "unknown recipe": (["train", "shakespere"], ["shakespere", "'shakespeare'"]),
    "unknown setting": (["train", "shakespeare", "train.stepps=3"], ["stepps", "'steps'"]),
    "unknown section": (["train", "shakespeare", "trian.steps=3"], ["trian", "'train'"]),
    "unknown variant": (["train", "shakespeare", "model.norm=rmsnorm"], ["rmsnorm", "'rms_norm'"]),
    "negative steps": (["train", "shakespeare", "train.steps=-1"], ["train.steps", "-1"]),
    "no steps": (
        ["train", "shakespeare", "train.steps=null"],
        ["train.steps", "train.tokens"],
    ),
    "heads that do not divide": (
        ["show", "shakespeare", "model.attention.n_heads=3"],
        ["n_heads=3", "d_model=128"],
    ),
    "key heads that do not divide": (
        ["show", "shakespeare", "model.attention.n_kv_heads=3"],
        ["n_kv_heads=3", "n_heads=4"],
    ),
    "window without room": (
        ["train", "shakespeare", "model.attention.window=0"],
        ["model.attention.window"],
    ),
    "odd batch": (
        ["train", "shakespeare", "train.batch_tokens=100"],
        ["train.batch_tokens=100", "64", "128"],
    ),
    "micro-batch too small": (
        ["train", "shakespeare", "train.micro_batch_tokens=5"],
        ["train.micro_batch_tokens=5"],
    ),
    "missing text": (["train", "shakespeare", "data.path=nowhere.txt"], ["data.path=nowhere.txt"]),
    "bad name": (["train", "shakespeare", "name=../x"], ["name"]),
    "not a setting": (["train", "shakespeare", "steps"], ["steps", "path.to.setting=value"]),
    "no such run": (["resume", "runs/none"], ["runs/none"]),
    "no such run to write": (["generate", "runs/none"], ["runs/none"]),
    "no such config file": (["train", "mine.yaml"], ["mine.yaml"]),
    "no such slot": (["parts", "atention"], ["atention", "'attention'"]),
    "too large for the machine": (
        ["train", "gpt2", "model.d_model=96000", "model.n_layers=900"],
        ["model.d_model=96000"],
    ),
}


@pytest.mark.parametrize(("words", "fragments"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_one_line(
    words: list[str], fragments: list[str], gptlab: Command, tmp_path: Path
):
    assert_mistake(gptlab(*words), *fragments)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\x00\x01\x02" * 99, "NUL"),
        (b"abc", "too short"),
        (b"\xff\xfe\xfa", ""),
    ],
)
def test_texts_that_cannot_be_used(content: bytes, words: str, gptlab: Command, tmp_path: Path):
    (tmp_path / "bad.txt").write_bytes(content)
    result = gptlab("train", "shakespeare", "data.path=bad.txt", *TINY)
    assert_mistake(result, "bad.txt", words)
    assert not (tmp_path / "runs").exists()


def test_a_sample_prompt_is_read_before_training(gptlab: Command, text: Path, tmp_path: Path):
    base = ("train", "shakespeare", f"data.path={text}", *TINY)
    assert_mistake(gptlab(*base, "train.sample_prompt=Ω"), "train.sample_prompt", "Ω")
    assert_mistake(gptlab(*base, 'train.sample_prompt="ROMEO: what"'), "train.sample_prompt", "11")
    assert not (tmp_path / "runs").exists()
    code, out, _ = gptlab(*base, "train.sample_prompt=ROMEO")
    assert code == 0
    assert "\n\nROMEO" in out


def test_a_prompt_that_suits_the_data_is_no_condition(gptlab: Command, text: Path):
    """The demo's recipe, with a text and a tokenizer in which its usual prompt has no letters."""
    small = [each for each in TINY if "n_heads" not in each]
    heads = ("model.attention.n_heads=2", "model.attention.n_kv_heads=2")
    for data in (f"data.path={text}", "data=python"):
        words = ("train", data, *small, *heads, "tokenizer=byte")
        assert gptlab(*words, "train.steps=1", "train.evaluate_every=null")[0] == 0
    assert gptlab("train", f"data.path={text}", *small, *heads, "tokenizer=char")[0] == 0


def test_a_config_file(gptlab: Command, text: Path, tmp_path: Path):
    assert gptlab("train", "shakespeare", f"data.path={text}", *TINY, "name=a")[0] == 0
    config = (tmp_path / "runs/a/config.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(config)
    assert gptlab("train", "mine.yaml", "name=b")[0] == 0
    (tmp_path / "typo.yaml").write_text(config.replace("d_model", "d_modl"))
    assert_mistake(gptlab("train", "typo.yaml"), "model", "d_modl", "'d_model'")


def test_mistakes_at_generation(gptlab: Command, text: Path):
    assert gptlab("train", "shakespeare", f"data.path={text}", *TINY, "name=a")[0] == 0
    assert_mistake(gptlab("generate", "runs/a", "--prompt", "Ω"), "Ω")
    assert_mistake(gptlab("generate", "runs/a", "--prompt", "ROMEO: what"), "11", "8")
    assert_mistake(gptlab("generate", "runs/a", "--top-p", "1.5"), "--top-p")
    assert_mistake(gptlab("generate", "runs/a", "--temperature", "-1"), "--temperature")
    assert_mistake(gptlab("generate", "runs/a", "--checkpoint", "7"), "--checkpoint")
    assert_mistake(gptlab("generate", "runs/a", "--quantize", "int4"), "--quantize=int4", "int8")
    assert_mistake(gptlab("generate", "runs/a", "--speculate", "4"), "--temperature=0", "0.8")


def test_smaller_weights_say_what_they_cost(gptlab: Command, text: Path):
    wide = ("model.d_model=32", "name=a")
    assert gptlab("train", "shakespeare", f"data.path={text}", *TINY, *wide)[0] == 0
    code, out, err = gptlab("generate", "runs/a", "--quantize", "int8", "--max-tokens", "9")
    assert (code, len(out)) == (0, 10)
    assert re.search(r"int8: \d\.\d{4} bits per byte instead of \d\.\d{4}, on the first", err + out)


def test_what_smaller_weights_cost_is_told_of_the_run_s_own_rows(gptlab: Command, tmp_path: Path):
    """Packed documents do not see each other, in training, its validation, and here."""
    (tmp_path / "texts").mkdir()
    for i in range(40):
        (tmp_path / f"texts/{i}.txt").write_text("abcdefgh"[: 2 + i % 7] * 2)
    packed = ("batching=packed", "data.val_fraction=0.5", "optimizer.lr=0.05", "train.steps=30")
    words = ("shakespeare", "data.path=texts", *TINY, *packed, "model.d_model=32", "name=a")
    assert gptlab("train", *words)[0] == 0
    _, out, err = gptlab("generate", "runs/a", "--quantize", "bf16", "--max-tokens", "1")
    told = re.search(r"bits per byte instead of (\d\.\d{4}), on the first", err + out)
    lines = (tmp_path / "runs/a/metrics.jsonl").read_text().splitlines()
    assert told
    assert told[1] == f"{json.loads(lines[-1])['bits_per_byte']:.4f}"


def test_guesses_write_the_same_text(gptlab: Command, text: Path):
    assert gptlab("train", "shakespeare", f"data.path={text}", *TINY, "name=a")[0] == 0
    greedy = ("generate", "runs/a", "--temperature", "0", "--max-tokens", "40")
    plain, guessed = gptlab(*greedy), gptlab(*greedy, "--speculate", "4")
    assert plain == guessed
    assert len(plain[1]) == 41


def test_weights_of_another_architecture(gptlab: Command, text: Path, tmp_path: Path):
    base = ("train", "shakespeare", f"data.path={text}", *TINY)
    assert gptlab(*base, "name=a")[0] == 0
    assert gptlab(*base, "name=b", "train.init_from=runs/a")[0] == 0
    wide = gptlab(*base, "name=c", "train.init_from=runs/a", "model.d_model=32")
    assert_mistake(wide, "train.init_from=runs/a", "another architecture")
    assert_mistake(gptlab(*base, "name=a", "train.init_from=runs/a"), "runs/a")
    config = tmp_path / "runs/a/config.yaml"
    config.write_text(config.read_text().replace("d_model: 16", "d_model: 32"))
    assert_mistake(gptlab("generate", "runs/a"), "another architecture", "embedding.weight")


def test_a_run_that_diverges_fails_with_its_last_good_checkpoint(
    gptlab: Command, text: Path, tmp_path: Path
):
    settings = ("optimizer.lr=1e20", "train.steps=50", "train.grad_clip=0")
    code, _, err = gptlab("train", "shakespeare", f"data.path={text}", *TINY, *settings)
    assert code == 1, err
    assert "Traceback" not in err
    assert "diverged" in err
    assert "optimizer.lr" in err
    assert list((tmp_path / "runs/shakespeare/checkpoints").glob("step-*"))
    assert json.loads(gptlab("runs", "--json")[1])[0]["state"] == "failed"


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_full_disk_loses_nothing(text: Path, tmp_path: Path):
    """With files limited in size, saving fails: one line, and the run can go on afterwards."""
    settings = [f"data.path={text}", *TINY, "name=a", "train.steps=3"]
    command = [sys.executable, "-m", "gptlab"]
    limited = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "from gptlab.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", limited, "train", "shakespeare", *settings],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "could not be written" in done.stderr
    again = subprocess.run(
        [*command, "resume", "runs/a"], cwd=tmp_path, env=environment, capture_output=True
    )
    assert again.returncode == 0, again.stderr


def test_a_tokenizer_from_text_to_a_report(gptlab: Command, text: Path, tmp_path: Path):
    code, out, err = gptlab(
        "tokenizer", "train", text, "--out", "tok", "--vocab-size=290", "--multiple-of=8",
        "--chat=chatml", "--special=[A]", "--split-pattern=gpt4", "--limit=900",
    )  # fmt: skip
    assert (code, out) == (0, "tok\n"), err
    assert "fewer tokens than the 296 asked for" in err
    assert "4 of them special, from 900 bytes in 1 documents" in err
    assert sorted(path.name for path in (tmp_path / "tok").iterdir()) == [
        "chat.json",
        "tokenizer.json",
    ]
    code, out, err = gptlab("tokenizer", "show", "tok", "ROMEO:[A]", "--special")
    assert (code, out.splitlines()[-1].split()[1]) == (0, "[A]"), err
    code, out, err = gptlab("tokenizer", "report", "tok", text, "byte", "--json")
    assert code == 0, err
    assert list(json.loads(out)["tokenizers"]) == ["tok", "byte"]
    code, out, _ = gptlab("tokenizer", "train", text, "--out", "letters", "--variant=char")
    assert (code, out) == (0, "letters\n")


def test_text_from_standard_input(text: Path):
    command = [sys.executable, "-m", "gptlab", "tokenizer", "show", "byte"]
    done = subprocess.run(command, input="é".encode(), capture_output=True)
    assert done.stdout.decode().split() == ["195", r"b'\xc3'", "169", r"b'\xa9'"]
    done = subprocess.run(command, input=b"a\xff", capture_output=True)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: standard input is not UTF-8: byte 0xff at position 1")
    assert b"Traceback" not in done.stderr


def too_much() -> str:
    """What torch says of it."""
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**52)
    return str(raised.value)


@pytest.mark.parametrize(("said", "told"), [
    ("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 4.00 GiB.",
     "CUDA out of memory. Tried to allocate 2.00 GiB\n"),
    ("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation'",
     "CUDA error: out of memory\n"),
    (too_much(), "DefaultCPUAllocator: can't allocate memory: you tried to allocate "
     f"{2**54} bytes"),
])  # fmt: skip
def test_want_of_memory_is_one_line_wherever_it_shows(
    said: str, told: str, gptlab: Command, monkeypatch: pytest.MonkeyPatch
):
    def failing() -> None:
        raise RuntimeError(said)

    monkeypatch.setattr("gptlab.show.recipes.show_recipes", failing)
    code, _, err = gptlab("recipes")
    assert code == 1
    assert err.startswith(f"failed: not enough memory: {told}")
    assert err.count("\n") == 1


def test_an_error_without_words_is_named(gptlab: Command, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("gptlab.show.recipes.show_recipes", fail)
    assert gptlab("recipes") == (1, "", "failed: not enough memory\n")


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["train", "nowhere", "--out=x"], ["nowhere: no such file or folder"]),
        (["train", "TEXT", "--out=."], ["--out=.", "there already"]),
        (["train", "TEXT", "--out=x", "--variant=bqe"], ["'bqe'", "did you mean 'bpe'"]),
        (["train", "TEXT", "--out=x", "--split-pattern=gpt3"], ["pattern", "'gpt2'"]),
        (["train", "TEXT", "--out=x", "--vocab-size=256"], ["vocab_size", "257"]),
        (["train", "TEXT", "--out=x", "--chat=none"], ["no chat template named 'none'"]),
        (["train", "TEXT", "--out=x", "--variant=char", "--special=a"], ["--variant=char"]),
        (["show", "nowhere", "x"], ["nowhere", "no such file or folder"]),
        (["show", "byte", "\udcff"], ["position 0", "surrogates"]),
        (["report", "byte", "nowhere"], ["nowhere: no such file or folder"]),
    ],
    ids=lambda x: " ".join(x),
)
def test_mistakes_with_tokenizers(
    gptlab: Command, text: Path, tmp_path: Path, words: list[str], fragments: list[str]
):
    (tmp_path / "mine").write_text("here")
    words = [str(text) if word == "TEXT" else word for word in words]
    assert_mistake(gptlab("tokenizer", *words), *fragments)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
