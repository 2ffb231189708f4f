"""Facts: readers of data sets, records, the bundled facts, the corpus."""
