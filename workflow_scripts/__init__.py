"""One thin script a rule: read inputs, call locedit, write outputs."""
