"""Locate facts in a language model, edit them, and score the edits."""
