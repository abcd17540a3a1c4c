"""What is typed after `gptlab compare`, and the one line that answers what cannot be done."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from studies import MakeRecipe, MakeStudy

from gptlab import cli
from gptlab.compare.asked import Asked
from gptlab.compare.reading import read_study, variant_of
from gptlab.compare.study import Tuning

Command = Callable[..., tuple[object, str, str]]


@pytest.fixture
def recipe_file(tiny_recipe: MakeRecipe, tmp_path: Path) -> Path:
    file = tmp_path / "tiny.yaml"
    file.write_text(tiny_recipe().to_yaml(), encoding="utf-8")
    return file


@pytest.fixture
def gptlab(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as end:
            cli.main([str(word) for word in words])
        out, err = capsys.readouterr()
        return end.value.code, out, err

    return run


def test_words_become_a_study(recipe_file: Path):
    study = Asked(
        str(recipe_file),
        settings=("train.steps=9",),
        variants=("rope:model.positions=rotary,model.norm={type: rms_norm, eps: 1e-6}",),
        seeds="3",
        match="params",
        tune="lr=1e-3,2e-3",
        metrics=("val_loss", "steps_to_loss,target=1.5"),
        leave_one_out=True,
    ).study()
    assert study.name == "shakespeare-rope"
    assert study.settings == ("train.steps=9",)
    assert study.variants == {
        "rope": ("model.positions=rotary", "model.norm={type: rms_norm, eps: 1e-6}")
    }
    assert (study.seeds, study.match, study.design) == ((0, 1, 2), "params", "leave_one_out")
    assert study.tune
    assert study.tune.lr == (1e-3, 2e-3)
    assert [metric.label for metric in study.metrics] == ["val_loss", "steps_to_loss(1.5)"]


def test_a_variant_may_be_a_whole_recipe():
    assert variant_of("llama:llama3_nano") == ("llama", ("llama3_nano",))
    words = "llama:llama3_nano,model.d_model=64,model.n_layers=2"
    assert variant_of(words)[1] == ("llama3_nano", "model.d_model=64", "model.n_layers=2")


def test_the_same_study_in_python_and_yaml(recipe_file: Path, tmp_path: Path):
    words = (
        "name: turned\nbase: tiny.yaml\nseeds: [0, 5]\nvariants:\n  rope: model.positions=rotary\n"
    )
    (tmp_path / "turned.yaml").write_text(words.replace("tiny.yaml", str(recipe_file)))
    (tmp_path / "turned.py").write_text(
        "from gptlab.compare.study import Study\n"
        f"study = Study(name='turned', base={str(recipe_file)!r}, seeds=(0, 5),\n"
        "    variants={'rope': ('model.positions=rotary',)})\n"
    )
    in_yaml, in_python = (read_study(str(tmp_path / f"turned.{x}")) for x in ("yaml", "py"))
    assert in_yaml == in_python
    assert in_yaml.in_words() == (
        "What does rope do for validation bits per byte of shakespeare, given the same tokens?"
    )
    changed = Asked(str(tmp_path / "turned.py"), settings=("train.steps=3",), seeds="7,8").study()
    assert (changed.seeds, changed.settings) == ((7, 8), ("train.steps=3",))


def test_a_file_takes_the_short_forms_of_the_command_line(recipe_file: Path, tmp_path: Path):
    (tmp_path / "short.yaml").write_text(
        f"base: {recipe_file}\n"
        "variants: {a: 'model.positions=rotary,model.norm={type: rms_norm, eps: 1e-6}',\n"
        "  b: 'llama3_nano,model.d_model=64'}\n"
        "settings: [model.attention.n_heads=4]\n"
        "seeds: 5\ntune: lr=1e-3,2e-3\nscales: [nano, micro]\n"
        "metrics: [val_loss, 'steps_to_loss,target=1.5']\n"
    )
    long = read_study(str(tmp_path / "short.yaml"))
    assert long.variants == {
        "a": ("model.positions=rotary", "model.norm={type: rms_norm, eps: 1e-6}"),
        "b": ("llama3_nano", "model.d_model=64"),
    }
    words = Asked(
        str(recipe_file),
        settings=("model.attention.n_heads=4",),
        variants=tuple(
            f"{name}:{','.join(map(str, words))}" for name, words in long.variants.items()
        ),
        seeds="5",
        tune="lr=1e-3,2e-3",
        scales="nano,micro",
        metrics=("val_loss", "steps_to_loss,target=1.5"),
        name="short",
    ).study()
    assert words == long
    assert (long.seeds, long.tune) == ((0, 1, 2, 3, 4), Tuning(lr=(1e-3, 2e-3)))
    assert long.scales["nano"][2] == "model.attention.n_heads=16"
    (tmp_path / "long.yaml").write_text(long.to_yaml())
    assert read_study(str(tmp_path / "long.yaml")) == long
    (tmp_path / "words.yaml").write_text(
        f"{HEAD}seeds: 0,3\ntune: lr\nscales: nano,micro\nmetrics: val_loss\n"
    )
    found = read_study(str(tmp_path / "words.yaml"))
    assert (found.seeds, found.tune, [*found.scales]) == ((0, 3), Tuning(), ["nano", "micro"])
    assert [metric.label for metric in found.metrics] == ["val_loss"]


def test_blanks_after_commas_change_nothing(tmp_path: Path):
    written = (
        "base: shakespeare\nname: one\nvariants:\n"
        "  a: model.positions=rotary, model.norm=rms_norm\n"
        "  b: llama3_nano, model.d_model=64, model.n_layers=2\n"
        "seeds: 0, 3\nscales: nano, micro\ntune: lr=1e-3, 2e-3\n"
        "metrics: steps_to_loss, target=1.5\n"
    )
    (tmp_path / "wide.yaml").write_text(written)
    (tmp_path / "narrow.yaml").write_text(written.replace(", ", ","))
    wide, narrow = (read_study(str(tmp_path / f"{x}.yaml")) for x in ("wide", "narrow"))
    assert wide == narrow
    assert wide.variants["a"] == ("model.positions=rotary", "model.norm=rms_norm")


def test_settings_that_are_typed_after_a_file_change_its_sizes(recipe_file: Path, tmp_path: Path):
    head = f"name: sized\nbase: {recipe_file}\nvariants: {{rope: model.positions=rotary}}\n"
    heads = "model.attention.n_heads=4"
    for sizes in ("[nano]", "{nano: [model.d_model=24], wide: [model.d_model=32]}"):
        (tmp_path / "a.yaml").write_text(f"{head}scales: {sizes}\n")
        (tmp_path / "b.yaml").write_text(f"{head}scales: {sizes}\nsettings: [{heads}]\n")
        typed = Asked(str(tmp_path / "a.yaml"), settings=(heads,))
        assert typed.study() == read_study(str(tmp_path / "b.yaml"))
        assert [*replace(typed, scales="micro").study().scales] == ["micro"]


def test_a_question_is_asked_in_words(recipe_file: Path, tmp_path: Path, study: MakeStudy):
    (tmp_path / "a.yaml").write_text(
        f"base: {recipe_file}\nquestion: Does it turn?\nvariants: {{r: model.positions=rotary}}\n"
    )
    (tmp_path / "a.py").write_text(
        '"""Does it\nturn?\n\nWhy one asks."""\n'
        "from gptlab.compare.study import Study\n"
        f"study = Study(name='a', base={str(recipe_file)!r},\n"
        "    variants={'r': ('model.positions=rotary',)})\n"
    )
    for name in ("a.yaml", "a.py"):
        asked = Asked(str(tmp_path / name), seeds="2").study()
        assert asked.in_words() == "Does it turn?"
        assert asked.extends(asked.but(question="Another wording?"))
    both = study(design="leave_one_out", match="flops").in_words()
    assert both.startswith("Which of rope and swiglu carry what they do together for ")
    assert both.endswith(" of shakespeare, given the same FLOPs?")


HEAD = "base: shakespeare\nvariants: {rope: model.positions=rotary}\n"
ROPE = ("--variant", "rope:model.positions=rotary")
MISTAKES = {
    "nothing to compare": ((), "name a --variant"),
    "a variant that changes nothing": (
        ("--variant", "same:model.positions=learned"),
        "variant same changes nothing",
    ),
    "two that are the same": (
        (*ROPE, "--variant", "turn:model.positions=rotary"),
        "variant turn is the same as rope",
    ),
    "two with one name": ((*ROPE, *ROPE), "there is a variant 'rope' already"),
    "a reserved name": (("--variant", "base:model.norm=rms_norm"), "cannot be called 'base'"),
    "the name of noise": ((*ROPE, "--name", "noise"), "cannot be called 'noise'"),
    "no settings": (("--variant", "rope"), "give a name and settings"),
    "an unknown setting": (
        ("--variant", "x:model.nrom=rms_norm"),
        "variant x: model.nrom: no setting named 'nrom'; did you mean 'norm'",
    ),
    "a setting of the base": (("--variant", "x:train.seed=1"), "variant x: train.seed: no setting"),
    "an unknown metric": ((*ROPE, "--metric", "val_los"), "did you mean 'val_loss'"),
    "a margin that is no factor": (
        (*ROPE, "--metric", "steps_to_loss,target=2,margin=0.05"),
        "0.05 is no factor above 1",
    ),
    "a metric twice": (
        (*ROPE, "--metric", "val_loss", "--metric", "val_loss,margin=0.1"),
        "val_loss stands twice",
    ),
    "an unknown budget": ((*ROPE, "--match", "parameter"), "did you mean 'params'"),
    "no seeds": ((*ROPE, "--seeds", "0"), "seeds: give how many, such as 5"),
    "a seed twice": ((*ROPE, "--seeds", "1,1"), "seed stands twice"),
    "two designs": ((*ROPE, "--factorial", "--leave-one-out"), "choose one"),
    "one to leave out": ((*ROPE, "--leave-one-out"), "two variants or more"),
    "other text": (("--variant", "x:data.val_fraction=0.3"), "x: data.val_fraction=0.3"),
    "another seed": (("--variant", "x:seed=9"), "the same for all arms"),
    "another length": (("--variant", "x:train.steps=7"), "x: train.steps=7"),
    "a stop by time": ((*ROPE, "train.max_seconds=3"), "train.max_seconds=3"),
    "parts that do not fit": (
        ("--variant", "x:model.attention.n_heads=3"),
        "x: ",
    ),
    "out of reach": (
        ("--variant", "x:model.d_model=512", "--match", "params"),
        "x: it cannot be matched in params: the nearest is",
    ),
    "tuning of what is not known": ((*ROPE, "--tune", "beta"), "the learning rate is tuned"),
    "an unknown size": ((*ROPE, "--scales", "nano,micron"), "did you mean 'micro'"),
    "rates that are none": ((*ROPE, "--tune", "lr=1e-3,x"), "tune.lr.1"),
    "too few to tune": ((*ROPE, "--tune", "lr=1e-3"), "tune.lr"),
}


def test_a_file_that_is_not_there_is_said_to_be_missing(gptlab: Command):
    code, _, err = gptlab("compare", "nothing.yaml")
    assert code == 2, err
    assert err.splitlines() == ["error: there is no config file nothing.yaml"]


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line(name: str, gptlab: Command, recipe_file: Path, tmp_path: Path):
    words, fragment = MISTAKES[name]
    code, _, err = gptlab("compare", recipe_file, *words)
    assert code == 2, err
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert fragment in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["an unknown setting", "another seed", "another length"])
def test_a_mistake_is_told_before_a_text_is_missed(name: str, gptlab: Command, recipe_file: Path):
    code, _, err = gptlab("compare", recipe_file, "data.path=nowhere.txt", *MISTAKES[name][0])
    assert code == 2
    assert MISTAKES[name][1] in err
    assert "nowhere" not in err
    assert "nowhere" in gptlab("compare", recipe_file, "data.path=nowhere.txt", *ROPE)[2]


@pytest.mark.parametrize(
    ("file", "content", "fragment"),
    [
        ("none.py", None, "there is no study"),
        ("empty.py", "", "defines no study"),
        ("bad.yaml", "base: shakespeare\nvariants: {rope: 5}\n", "bad.yaml: variants"),
        (
            "bad.yaml",
            "base: shakespeare\nvariants: {rope: 'model.norm=l2'}\nscales: {a/b: []}\n",
            "a size cannot be called 'a/b'",
        ),
        ("bad.yaml", f"{HEAD}seeds: 0\n", "bad.yaml: seeds: give how many, such as 5, or which"),
        ("bad.yaml", f"{HEAD}seeds: -1\n", "bad.yaml: seeds: give how many, such as 5, or which"),
        ("bad.yaml", f"{HEAD}tune: beta\n", "bad.yaml: tune: the learning rate is tuned: lr, or"),
        ("bad.yaml", f"{HEAD}settings: [model.nrom=l2]\nscales: [nano]\n", "bad.yaml: settings: "),
        ("bad.yaml", f"{HEAD.replace('spe', 'sp')}scales: [nano]\n", "bad.yaml: base: no recipe"),
        ("bad.yaml", f"{HEAD}scales: [nan]\n", "bad.yaml: scales: no size 'nan'; did you mean"),
        (
            "bad.yaml",
            f"{HEAD}metrics: 'steps_to_loss,1.5'\n",
            "bad.yaml: metrics.0: '1.5' is not of the form setting=value",
        ),
        ("bad.yaml", "base: shakespear\nvariants: {rope: 'model.norm=l2'}\n", "no recipe named"),
    ],
)
def test_a_study_that_cannot_be_read_is_one_line(
    file: str, content: str | None, fragment: str, gptlab: Command, tmp_path: Path
):
    if content is not None:
        (tmp_path / file).write_text(content)
    code, _, err = gptlab("compare", tmp_path / file)
    assert code == 2, err
    assert fragment in err.splitlines()[-1]
    assert len(err.splitlines()) == 1, err


@pytest.mark.parametrize("seeds", ["0,0,1", "1", "3,3"])
def test_noise_of_one_seed_or_of_one_counted_twice_is_refused_before_it_runs(
    seeds: str, gptlab: Command, recipe_file: Path, tmp_path: Path
):
    code, _, err = gptlab("noise", recipe_file, "--seeds", seeds)
    assert code == 2, err
    (line,) = err.splitlines()
    assert "--seeds: noise takes two seeds or more, each once" in line
    assert not (tmp_path / "runs").exists()


def test_a_plan_runs_nothing_and_an_answer_follows(
    gptlab: Command, recipe_file: Path, tmp_path: Path
):
    words = ("compare", recipe_file, *ROPE, "--seeds", 2, "--jobs", 1, "--name", "mine")
    code, out, err = gptlab(*words, "--tune", "lr", "--plan")
    assert code in (None, 0), err
    assert "4, and 10 to tune; 0 of them are there already" in out
    assert all(word in out for word in ("time ", "disk ", "rope", "non-embedding"))
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "studies").exists()
    assert "finds  unknown" in out
    code, out, err = gptlab("noise", recipe_file, "--seeds", 2, "--jobs", 1)
    assert code in (None, 0), err
    assert "bits_per_byte" in out
    assert re.search(r"finds  differences of [\d.]+ bits/byte", gptlab(*words, "--plan")[1])
    insensitive = (*words, "--metric", "bits_per_byte,margin=9", "--plan")
    assert "finds  differences of 9 bits/byte" in gptlab(*insensitive)[1]
    code, out, err = gptlab(*words)
    assert code in (None, 0), err
    assert "What does rope do for validation bits per byte of shakespeare" in out
    assert err.count("run 1/2") == 1  # the base's runs are those of the noise
    assert (tmp_path / "studies" / "mine" / "results.json").is_file()
    before = (tmp_path / "studies" / "mine" / "results.json").read_text()
    assert gptlab(*words, "--report-only")[1] == out
    after = (tmp_path / "studies" / "mine" / "results.json").read_text()
    assert (
        after.partition('"command"')[2].partition("\n")[2]
        == before.partition('"command"')[2].partition("\n")[2]
    )
    assert '"noise": {' in after
