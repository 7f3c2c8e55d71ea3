"""Formats of other projects: each file is a component, but for the modules listed here."""

NOT_COMPONENTS = ("conversion", "format", "torch_file")
