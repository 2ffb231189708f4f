"""The command line: one prompt, looked at. The only part of the library that prints."""
