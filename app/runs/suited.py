"""What suits data where nothing else is asked for: the preset and the recipe of a training."""

from __future__ import annotations

from types import ModuleType


def choose_preset(family: ModuleType, spec: str) -> str:
    """Choose the preset of a family that is called like the data, or else its default one.

    Args:
        family: A family module.
        spec: How the data was asked for.
    """
    preset: str = spec if spec in family.PRESETS else family.DEFAULT_PRESET
    return preset


def name_recipe(spec: str) -> str:
    """Name the base of recipes that suits data.

    Args:
        spec: How the data was asked for.
    """
    kind = spec.partition(":")[0]
    return {"digits": "digits", "clutter": "clutter", "text": "text"}.get(kind, "image")
