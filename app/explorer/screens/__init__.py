"""The screens of the explorer, a module each, with ``show(context)``."""
