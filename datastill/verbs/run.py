"""datastill run RECIPE."""

from pathlib import Path

from datastill.flags import Run
from datastill.ground.options import Json
from datastill.ground.progress import say
from datastill.recipes._base import named, run_recipe


def main(flags: Run, groups: Json, config: Json) -> None:
    """Run a recipe and print its table."""
    recipe = named(flags.recipe)
    out = Path(flags.out or f"runs/{flags.recipe}")
    root = None if flags.data_root is None else Path(flags.data_root)
    files = run_recipe(
        recipe, out, seed=flags.seed, device=flags.device, data_root=root, resume=flags.resume
    )
    print(files.table_markdown.read_text(encoding="utf-8"))
    say(f"{files.headline}\nreport: {files.page}")
