"""Localizers: where in a model a fact is held, a value per fact and layer."""
