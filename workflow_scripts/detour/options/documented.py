"""Documented: the schema that editors complete configurations by, and the table of the documentation."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from detour.options.explained import choices, resolved
from detour.options.run import Run


class _Untitled(GenerateJsonSchema):
    """Without titles, which repeat the keys."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema() -> dict[str, Any]:
    """JSON schema (2020-12) of the configuration."""
    found = Run.model_json_schema(schema_generator=_Untitled)
    for section in [found, *found["$defs"].values()]:
        section["description"] = " ".join(section["description"].split())
    return {"$schema": GenerateJsonSchema.schema_dialect, **found}


def table() -> str:
    """Markdown table of every key with its default and meaning, for docs/configuration.md."""
    whole = schema()
    rows = [f"| `{key}` | `{default}` | {text} |" for key, default, text in _rows(whole, whole, "")]
    return "\n".join(["| key | default | meaning |", "| --- | --- | --- |", *rows])


def _rows(rule: dict[str, Any], root: dict[str, Any], key: str) -> Iterator[tuple[str, str, str]]:
    rule = resolved(rule, root)
    chosen = rule.get("items", rule)
    if "oneOf" in chosen and "discriminator" not in chosen:
        own, outside = chosen["oneOf"]
        yield from _rows(own, root, key)
        option = resolved(outside, root)
        yield key, "from outside", option["description"]
        yield from _rows(outside, root, key)
    elif "discriminator" in chosen:
        field = chosen["discriminator"]["propertyName"]
        for value, reference in choices(chosen).items():
            option = resolved(reference, root)
            yield key, f"{field}: {value}", option["description"]
            for name, child in option["properties"].items():
                if name != field:
                    yield from _rows(child, root, f"{key}.{name}")
    elif "properties" in rule:
        for name, child in rule["properties"].items():
            yield from _rows(child, root, f"{key}.{name}".lstrip("."))
    else:
        default = json.dumps(rule["default"]) if "default" in rule else "required"
        yield key, default, rule["description"]
