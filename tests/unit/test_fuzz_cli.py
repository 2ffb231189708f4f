"""Whatever is typed on the command line: answered, or refused in one sentence."""

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import tiny
import torch
from fuzzing import PROMPT, TEXT, cases, one_sentence
from hypothesis import assume, given
from hypothesis import strategies as st

from locedit.api import inputs
from locedit.cli import main as command_line

pytestmark = pytest.mark.slow  # hundreds of made-up inputs


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def weights(folder) -> Path:
    return tiny.save(tiny.pair("llama", layers=2, dtype=torch.float32), folder / "weights")


ARGUMENT = st.one_of(TEXT, st.integers().map(str), st.floats().map(str), st.just("9" * 5000))
OPTIONS = {
    "trace": "--target --module --window --noise --n-noise --seed --out --model".split(),
    "edit": "--method --plugin --layer --paraphrase --neighbour --preset --tuned --tokens --top "
    "--results --model --to".split(),
    "localize": "--target --to --localizer --plugin --module --window --results --out --table "
    "--model".split(),
    "provenance": ["--json"],
}
SMALL = {
    "trace": ["--noise", "0.5", "--n-noise", "2"],
    "edit": ["--to", "Rome", "--layer", "1"],
    "localize": ["--localizer", "lens_rise", "--localizer", "direct"],
}


@st.composite
def command_lines(draw, weights: Path):
    """A command that is nearly right, with some of its arguments odd, twice or left out."""
    command = draw(st.sampled_from([*OPTIONS]))
    if command == "provenance":
        files = [str(weights / "config.json"), str(weights), "none.parquet"]
        return [command, draw(st.one_of(st.sampled_from(files), TEXT)), *draw(_odd(command))]
    template = draw(st.one_of(st.sampled_from(["The capital of {} is", "{} is", "{}"]), PROMPT))
    subject = draw(st.one_of(st.just("France"), TEXT))
    line = [command, template, "--subject", subject, "--model", str(weights), *SMALL[command]]
    if command == "edit":
        line += ["--method", draw(st.sampled_from(["FT-1", "rome", "FT-5"]))]
        line += ["--neighbour", draw(st.one_of(st.just("Rome is in"), TEXT))]
    else:
        line += ["--target", draw(st.one_of(st.just("Paris"), TEXT))]
    return line + draw(_odd(command))


@st.composite
def _odd(draw, command: str):
    words: list[str] = []
    for _ in range(draw(st.integers(0, 2))):
        words.append(draw(st.sampled_from(OPTIONS[command])))
        words += [draw(ARGUMENT)] if draw(st.integers(0, 6)) else []
    return words


@cases(120)
@given(data=st.data())
def test_any_arguments_are_answered_or_refused_in_one_sentence(folder, weights, data):
    line = data.draw(command_lines(weights))
    # a number that would keep the machine busy is no fault
    numbers = [int(word) for word in line if word.isascii() and word.isdigit() and len(word) < 20]
    assume(max(numbers, default=0) < 200)
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(out), redirect_stderr(err):
        patched.setenv("LOCEDIT_CACHE", str(folder / "cache"))
        patched.setattr(inputs, "_texts", lambda _: iter(tiny.SENTENCES * 9))
        patched.chdir(folder)
        status = command_line.main(line)
    if status != 0:
        assert status in (1, 2)
        assert err.getvalue().count("\n") == 1
        one_sentence(err.getvalue().removesuffix("\n"), "locedit")
    else:
        assert out.getvalue().strip()
