"""Trees of inputs and outputs: JSON within JSON, of which torch may import what it names."""

from __future__ import annotations

import json
import re
from typing import Any

from vlacut.frontends.pt2.fields import name, text
from vlacut.frontends.pt2.good import NotGood, empty, many, shown, word

_TREES = frozenset(
    (
        *("builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"),
        *("torch.fx.immutable_collections.immutable_list",),
        *("torch.fx.immutable_collections.immutable_dict",),
    )
)
_MAPPINGS = ("dict", "OrderedDict")


def tree(value: Any, arguments: bool = False) -> str:
    """A tree of tuples, lists and mappings, written anew.

    Those of arguments are a tuple of theirs and a mapping of keywords, which become names. Raises
    NotGood if it is anything else.
    """
    try:
        version, root = json.loads(text(value))
    except (ValueError, TypeError, RecursionError) as error:
        raise NotGood(f"{shown(value)} where a tree should be") from error
    if version != 1:
        raise NotGood(f"a tree of version {shown(version)}; save it again")
    made = _branch(root)
    if arguments:
        both = made["children_spec"]
        if len(both) != 2 or not str(both[1]["type"]).endswith(_MAPPINGS):
            raise NotGood(f"{shown(value)} where the arguments of forward should be")
        for key in json.loads(both[1]["context"]):
            name(key)
    return json.dumps([1, made])


def _branch(node: Any) -> dict[str, Any]:
    if not isinstance(node, dict) or set(node) != {"type", "context", "children_spec"}:
        raise NotGood(f"{shown(node)} where a tree should be")
    kind, children = node["type"], many(_branch)(node["children_spec"])
    if kind is None:
        empty(children)
        return {"type": None, "context": None, "children_spec": []}
    if kind not in _TREES:
        raise NotGood(
            f"inputs or outputs in a {shown(kind)}, whose loading may run code; take and return "
            f"tensors in tuples, lists and dicts"
        )
    context = "null"
    if kind.endswith(_MAPPINGS):
        keys = _keys(node["context"])
        if len(keys) != len(children):
            raise NotGood(f"{len(keys)} keys of {len(children)} values")
        context = json.dumps(keys)
    return {"type": kind, "context": context, "children_spec": children}


_key = word(re.compile(r"[^'\"\\\n\r]{0,1024}"), "a key without quotes (another may run code)")


def _keys(context: Any) -> list[Any]:
    try:
        keys = json.loads(context)
    except (ValueError, TypeError, RecursionError) as error:
        raise NotGood(f"{shown(context)} where keys should be") from error
    return [key if type(key) is int else _key(key) for key in many(lambda item: item)(keys)]
