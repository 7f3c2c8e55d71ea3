"""The scales of a recipe, in a file that the command line can import without torch."""

from typing import Literal

Scale = Literal["smoke", "small", "full"]
