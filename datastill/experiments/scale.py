"""How large a recipe is run; apart, because the command line asks before it imports torch."""

from typing import Literal

Scale = Literal["smoke", "small", "full"]
