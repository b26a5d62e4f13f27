"""Small random models of many families of transformers, with examples, as a user would make them.

Each is a function without arguments that gives (module, keywords of its forward); nothing is done
to the module. Importing a module here enters its families into `FAMILIES`.
"""

from . import captioning, language, pictures, qwen, sound  # noqa: F401
from .common import FAMILIES, other_values

__all__ = ["FAMILIES", "other_values"]
