"""A study's steps: which facts are known, edits, measurements, scores, tuning."""
