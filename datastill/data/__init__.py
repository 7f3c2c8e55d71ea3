"""Data sets: each file is a component, but for the modules listed here."""

NOT_COMPONENTS = ("archives", "cache", "check", "decode", "lists", "source")
