"""The YAML file of a whole edit."""

from surgery.recipes.demo import demo_plans
from surgery.recipes.pinning import pinned, pinned_rows
from surgery.recipes.recipe import Recipe, dump_recipe, in_one_step, parse_recipe, read_recipe

__all__ = [
    "Recipe",
    "demo_plans",
    "dump_recipe",
    "in_one_step",
    "parse_recipe",
    "pinned",
    "pinned_rows",
    "read_recipe",
]
