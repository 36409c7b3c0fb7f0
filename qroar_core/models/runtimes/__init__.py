"""Runtimes of other people, each run in a process of its own on a folder that was exported."""
