"""Testing criteria as they are stored: checked against the schema of the rows, and each with an id."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from pydantic import TypeAdapter

from tuneyard.api.wire.platform_api.evals import CreateEvalRequest, DataSourceConfig
from tuneyard.api.wire.platform_api.graders import AnyGrader, Grader, LabelModelGrader, MultiGrader, ScoreModelGrader
from tuneyard.core.errors import RequestError
from tuneyard.evaluation.templates import Template, Variable

_GRADER: TypeAdapter[AnyGrader] = TypeAdapter(Grader)

_OPEN_KEYWORDS = ("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "patternProperties")
"""With one of these a schema may define more properties than its `properties`."""


def check_eval(request: CreateEvalRequest) -> None:
    """Raises RequestError for an item_schema that is no JSON schema, and for variables that no row can have."""
    schema = request.data_source_config.item_schema
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as e:
        raise _schema_error(f"is no JSON schema: {e.message[:200]} (at {e.json_path})") from e
    except RecursionError as e:
        raise _schema_error("is nested too deeply") from e
    for number, grader in enumerate(request.testing_criteria):
        for field, text in grader.templates:
            for variable in Template.parse(text).variables:
                _check_variable(variable, request.data_source_config, f"testing_criteria.{number}.{field}")


def row_schema(config: DataSourceConfig) -> dict[str, Any]:
    """The data source config as the API answers it, with the schema of a whole row."""
    properties = {"item": config.item_schema} | ({"sample": {"type": "object"}} if config.include_sample_schema else {})
    return {
        "type": "custom",
        "schema": {"type": "object", "properties": properties, "required": list(properties)},
    }


def stored_criteria(request: CreateEvalRequest) -> list[dict[str, Any]]:
    """The graders as JSON, each with the id that its results go by, which begins with its name as OpenAI's does."""
    return [
        {"name": grader.name, "id": f"{grader.name}-{uuid.uuid4()}"} | grader.model_dump(exclude_none=True)
        for grader in request.testing_criteria
    ]


def read_criteria(stored: Sequence[dict[str, Any]]) -> list[tuple[str, AnyGrader]]:
    """The id and the grader of each criterion, from stored_criteria."""
    return [
        (criterion["id"], _GRADER.validate_python({k: v for k, v in criterion.items() if k != "id"}))
        for criterion in stored
    ]


def uses_sample(graders: Sequence[AnyGrader]) -> bool:
    """Whether a grader has a variable of the namespace `sample`."""
    return any(
        variable.namespace == "sample"
        for grader in graders
        for _, text in grader.templates
        for variable in Template.parse(text).variables
    )


def grading_models(graders: Sequence[AnyGrader]) -> dict[str, str]:
    """The models that the graders ask, each with the name of a grader that asks it."""
    models: dict[str, str] = {}
    for grader in graders:
        for part in grader.graders.values() if isinstance(grader, MultiGrader) else [grader]:
            if isinstance(part, ScoreModelGrader | LabelModelGrader):
                models.setdefault(part.model, grader.name)
    return models


def _check_variable(variable: Variable, config: DataSourceConfig, param: str) -> None:
    if variable.namespace == "sample" and not config.include_sample_schema:
        raise RequestError(
            f"{param} uses {{{{ {variable} }}}}, and the data source has no samples. Set "
            "data_source_config.include_sample_schema to true.",
            param=param,
            code="invalid_value",
        )
    schema = config.item_schema
    properties = schema.get("properties")
    is_open = any(keyword in schema for keyword in _OPEN_KEYWORDS) or schema.get("additionalProperties", False)
    if variable.namespace != "item" or not variable.path or is_open or not isinstance(properties, dict):
        return
    if str(variable.path[0]) not in properties:
        raise RequestError(
            f"{param} uses {{{{ {variable} }}}}, which data_source_config.item_schema does not define; it defines: "
            f"{', '.join(properties) or 'nothing'}.",
            param=param,
            code="invalid_value",
        )


def _schema_error(reason: str) -> RequestError:
    param = "data_source_config.item_schema"
    return RequestError(f"Invalid value for {param!r}: {reason}.", param=param, code="invalid_value")
