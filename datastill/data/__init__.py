"""Data sets: each file is a component, but for the modules listed here."""

NOT_COMPONENTS = ("cache_folder", "check", "decode", "source")
