"""What the fuzz tests share: how many cases are tried, how a user is told, and what is drawn.

Cases are drawn by Hypothesis from a fixed seed, so that two runs of the suite see the same ones.
LOCEDIT_FUZZ=100 draws a hundred times as many, and others each time.
"""

import os

import samples
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

TIMES = int(os.environ.get("LOCEDIT_FUZZ", "1"))


def cases(count: int) -> settings:
    """How many cases of a property are tried; none is too slow or too large to count."""
    return settings(
        max_examples=count * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )


def one_sentence(text: str, *names: str) -> None:
    """What a user is told: one line, not a page, that names what is at fault."""
    assert text.strip()
    assert "\n" not in text
    assert "\r" not in text
    assert len(text) < 2500
    assert "Traceback" not in text
    for name in names:
        assert name in text


NASTY = [
    "",
    " ",
    "\n",
    "{}",
    "{",
    "}}",
    "{0}",
    "{subject}",
    "%s",
    "$x_$",
    "a\nb",
    "a\r\nb",
    "\u2028",
    "\x85",
    "\x0b",
    "\x1b[31m",
    "\0",
    "a\0b",
    "\ud800",
    "x\udfffy",
    "עברית",
    "\u202eabc",
    "e\u0301\u0301\u0301",
    "\u0301",
    "👩‍👩‍👧‍👦",
    "𝔘𝔫𝔦",
    "İ",
    "ß",
    "\u200b",
    "\ufeff",
    "東京",
    "</s>",
    "<s>",
    "<script>alert(1)</script>",
    "' OR 1=1 --",
    "../../etc/passwd",
    "-1",
    "nan",
    "1e-4",
    "a" * 300,
    "Paris " * 400,
]
ANY_CHARACTER = st.characters(exclude_categories=())  # surrogates as well
TEXT = st.one_of(
    st.sampled_from(NASTY),
    st.sampled_from(["France", "Paris", "Rome", "the king"]),
    st.text(ANY_CHARACTER, max_size=12),
)
SCALAR = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 2**31, 2**63, 10**30]),
    st.floats(),
    TEXT,
)
JSON = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
)
PROMPT = st.one_of(
    st.builds(lambda a, b: f"{a}{{}}{b}", TEXT, TEXT),
    st.sampled_from(["The capital city of {} is", "{} is", "Is {} or {} it", "France {} is", "{}"]),
    TEXT,
)

GOOD: dict[str, dict] = {
    "native": {**samples.NATIVE, "case_id": "1"},
    "counterfact": {
        "case_id": 1,
        "requested_rewrite": {
            "prompt": "The capital of {} is",
            "relation_id": "capital",
            "target_new": {"str": "Rome"},
            "target_true": {"str": "Paris"},
            "subject": "France",
        },
        "paraphrase_prompts": ["France is governed from"],
        "neighborhood_prompts": ["The Louvre is in"],
        "generation_prompts": ["France has"],
    },
    "easyedit": {
        "case_id": 1,
        "subject": "France",
        "prompt": "The capital of France is",
        "ground_truth": "Paris",
        "target_new": "Rome",
        "rephrase_prompt": "France is governed from",
        "locality_prompt": "The Louvre is in",
    },
    "zsre": {
        "subject": "France",
        "src": "What is the capital of France?",
        "answers": ["Paris"],
        "rephrase": "From where is France governed?",
        "loc": "Where is the Louvre?",
    },
    "known_1000": {
        "known_id": 1,
        "subject": "France",
        "prompt": "The capital of France is",
        "attribute": "Paris",
        "relation_id": "capital",
    },
}


@st.composite
def damaged(draw, content: bytes):
    """The bytes cut off, or with a few of them changed."""
    changed = bytearray(content)
    for at in draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        changed[at] = draw(st.integers(0, 255))
    return bytes(changed[: draw(st.integers(0, len(content)) | st.just(len(content)))])
