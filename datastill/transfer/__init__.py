"""Evaluation of networks: each task is a file, besides the modules listed here."""

NOT_COMPONENTS = ("evaluation", "held_out", "origins", "rows", "task")
