"""One record that all readers of data sets are tried with, in two formats."""

from typing import Any

NATIVE: dict[str, Any] = {
    "case_id": "7",
    "relation_id": "capital",
    "subject": "France",
    "template": "The capital of {} is",
    "target_true": "Paris",
    "target_new": "Rome",
    "paraphrases": ["France is governed from"],
    "neighbourhood": ["The Louvre is in"],
    "generation_prompts": ["France has"],
}
COUNTERFACT: dict[str, Any] = {
    "case_id": 7,
    "pararel_idx": 2796,
    "requested_rewrite": {
        "prompt": "The capital of {} is",
        "relation_id": "capital",
        "target_new": {"str": "Rome", "id": "Q220"},
        "target_true": {"str": "Paris", "id": "Q90"},
        "subject": "France",
    },
    "paraphrase_prompts": ["France is governed from"],
    "neighborhood_prompts": ["The Louvre is in"],
    "attribute_prompts": ["not used"],
    "generation_prompts": ["France has"],
}
