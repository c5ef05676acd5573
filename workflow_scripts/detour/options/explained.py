"""Explained: what is wrong with a configuration, in lines that a person can act on."""

from functools import cache
from math import isfinite
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from detour.options.base import KINDS, Options, shortest
from detour.spelling import quoted, unknown

# What a bound is called, by the kind of the error and the name of the bound in it.
BOUNDS = {
    "greater_than_equal": ("ge", "at least {}"),
    "greater_than": ("gt", "more than {}"),
    "less_than_equal": ("le", "at most {}"),
    "less_than": ("lt", "less than {}"),
    "too_short": ("min_length", "at least {} entries"),
    "too_long": ("max_length", "at most {} entries"),
    "string_too_short": ("min_length", "at least {} characters"),
    "string_too_long": ("max_length", "at most {} characters"),
}
PRESET = "; a preset goes behind a run's own file: --configfile config.yaml PRESET"


def explained(error: ValidationError, model: type[Options]) -> list[str]:
    """A line for each thing that is wrong: its key, what was found, what is allowed, the nearest spelling.

    Parameters
    ----------
    error
        What Pydantic said of it.
    model
        Of the whole configuration.
    """
    schema = _schema(model)
    lines: list[str] = []
    missing: dict[tuple[int | str, ...], list[str]] = {}
    for found in error.errors(include_url=False):
        if found["type"] == "missing":
            missing.setdefault(found["loc"][:-1], []).append(str(found["loc"][-1]))
        else:
            lines.append(_line(found, schema))
    for place, names in missing.items():
        key, _ = _at(place, schema)
        lines.append(f"{_name(key)}: `{'`, `'.join(names)}` is missing{'' if key else PRESET}")
    return lines


@cache
def _schema(model: type[Options]) -> dict[str, Any]:
    return model.model_json_schema()


def _line(error: ErrorDetails, schema: dict[str, Any]) -> str:
    found, kind, context = error["input"], error["type"], error.get("ctx", {})
    key, rule = _at(error["loc"], schema)
    name = _name(key)
    meaning = f" ({rule['description']})" if "description" in rule else ""
    if isinstance(found, float) and not isfinite(found):
        return f"{name}: found {found}, expected a finite number"
    if kind in BOUNDS:
        bound, words = BOUNDS[kind]
        return f"{name}: found {quoted(found)}, expected {words.format(context[bound])}{meaning}"
    if "discriminator" in rule:
        field, allowed = rule["discriminator"]["propertyName"], list(choices(rule))
        if kind == "union_tag_invalid":
            return unknown(f"{name}.{field}", found[field], allowed)
        return f"{name}: found {quoted(found)}, expected a mapping with `{field}`: {', '.join(allowed)}"
    match kind:
        case "extra_forbidden" | "invalid_key":
            _, around = _at(error["loc"][:-1], schema)
            return unknown(name, error["loc"][-1], around["properties"])
        case "literal_error":
            return unknown(name, found, rule.get("enum") or [rule["const"]])
        case "unexpected":
            place = f"{name}.{context['at']}" if context["at"] else name
            found = found[context["at"]] if context["at"] else found
            if context["allowed"]:
                return unknown(place, found, context["allowed"])
            return f"{place}: found {quoted(found)}, expected {context['words']}{meaning}"
        case "string_type" if not isinstance(found, list | dict):
            read = "nothing" if found is None else type(found).__name__
            wanted = f"expected text; write it in quotes{meaning}"
            return f"{name}: found {found}, which YAML reads as {read}, {wanted}"
        case "int_type" | "float_type" if isinstance(found, str) and _is_number(found):
            number = shortest(float(found))
            if kind == "float_type" or isinstance(number, int):
                read = "; YAML reads 1e-3 as text" if "e" in found.lower() else ""
                return f"{name}: found the text {found!r}, expected a number{read}: write {number!r}"
    return f"{name}: found {quoted(found)}, expected {' or '.join(_types(rule)) or error['msg']}{meaning}"


def _at(loc: tuple[int | str, ...], schema: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The key of a place, and what the schema says of it; a place also names the method of an entry."""
    key, rule = "", schema
    for part in loc:
        if part in KINDS:
            rule = resolved(rule["oneOf"][KINDS.index(part)], schema)
            continue
        if "discriminator" in rule and part in (options := choices(rule)):
            rule = resolved(options[part], schema)
            continue
        key += f"[{part}]" if isinstance(part, int) else f".{part}"
        inner: dict[str, Any]
        if isinstance(part, int):
            inner = next((kind["items"] for kind in (rule, *rule.get("anyOf", ())) if "items" in kind), {})
        else:
            inner = rule.get("properties", {}).get(part, {})
        rule = resolved(inner, schema)
    return key, rule


def choices(rule: dict[str, Any]) -> dict[str, dict[str, str]]:
    """What each value of a discriminator chooses."""
    return {name: {"$ref": place} for name, place in rule["discriminator"]["mapping"].items()}


def resolved(rule: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in rule:
        return rule
    return {**schema["$defs"][rule["$ref"].rpartition("/")[2]], **rule}


def _types(rule: dict[str, Any]) -> list[str]:
    kinds = [kind["type"] for kind in (rule, *rule.get("anyOf", ())) if "type" in kind]
    return [{"object": "a mapping", "array": "a list"}.get(kind, kind) for kind in kinds]


def _name(key: str) -> str:
    return key.lstrip(".") or "the configuration"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
