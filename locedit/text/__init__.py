"""Texts as such: how two of them join, and where a subject stands in one."""
