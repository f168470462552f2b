"""Checks that launcher files and Kubernetes manifests have in common: a JSON schema, and exposure to the internet."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Any

INLINE_TOKEN = re.compile(r"\bRAY_AUTH_TOKEN=")
WIDEST_PREFIX = 7
"""Shortest prefix of an address range that may be let in: 10.0.0.0/8 and fc00::/7 are the largest private ranges."""

EXPOSING_FIELDS = (
    *(("type", "NodePort"), ("type", "LoadBalancer"), ("serviceType", "NodePort"), ("serviceType", "LoadBalancer")),
    *(("hostNetwork", True), ("enableIngress", True)),
)
"""Kubernetes fields with the values that open a port beyond the Kubernetes cluster."""


def schema_problems(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    """Yields every violation of a JSON schema; for an unknown key also the known keys and the closest of them."""
    from jsonschema import Draft7Validator

    for error in sorted(Draft7Validator(schema).iter_errors(document), key=lambda e: [str(part) for part in e.path]):
        place = ".".join(map(str, error.path))
        if error.validator != "additionalProperties":
            yield f"{place or '(the whole file)'}: {_explain(error)}"
            continue
        known = sorted(error.schema.get("properties", ()))
        for key in sorted(map(str, set(error.instance) - set(known))):
            closest = difflib.get_close_matches(key, known, n=1)
            hint = f", did you mean {closest[0]}?" if closest else "."
            yield f"{place}.{key}".lstrip(".") + f": unknown key{hint} Known here: {', '.join(known)}."


def _explain(error: Any) -> str:
    if error.validator == "pattern" and "description" in error.schema:
        return f"found {error.instance!r}, expected {error.schema['description']}."
    # YAML reads 630, true and 2026-11-28 as a number, a boolean and a date.
    is_text_wanted = error.validator == "type" and error.validator_value == "string"
    fix = " Put it in quotes." if is_text_wanted and not isinstance(error.instance, dict | list) else ""
    return f"{error.message[:300]}.{fix}"


def exposure_problems(node: Any, place: str = "") -> Iterator[str]:
    """Yields every value of a document that opens the cluster to the internet or holds the token in plain text.

    `place` is the dotted path of `node` in the document.
    """
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            where = f"{place}.{key}".lstrip(".")
            if (key, value) in EXPOSING_FIELDS:
                yield (
                    f"{where}: {value} opens a port beyond the Kubernetes cluster. Use ClusterIP, and reach it with "
                    "kubectl port-forward."
                )
            yield from exposure_problems(value, where)
        if isinstance(node, dict) and node.get("name") == "RAY_AUTH_TOKEN" and "value" in node:
            yield f"{place}.value: the file holds a token. Take it from a Secret: authOptions.secretName."
    elif isinstance(node, str) and INLINE_TOKEN.search(node):
        yield f"{place}: the file holds a token. Use file_mounts and RAY_AUTH_TOKEN_PATH."
    elif isinstance(node, str) and "/" in node:
        try:
            network = ipaddress.ip_network(node, strict=False)
        except ValueError:
            return
        if network.prefixlen < WIDEST_PREFIX:
            yield f"{place}: {node} lets in the whole internet. Give your own address, like 203.0.113.7/32."
