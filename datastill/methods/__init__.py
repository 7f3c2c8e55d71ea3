"""Methods: each file is a component, but for the modules listed here."""

NOT_COMPONENTS = ("method",)
