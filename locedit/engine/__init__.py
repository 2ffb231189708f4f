"""Partial passes over a model, and what is computed from them."""
