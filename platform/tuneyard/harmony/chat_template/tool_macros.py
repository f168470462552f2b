"""The part of the chat template that declares tools: JSON schemas as TypeScript types, as openai-harmony writes them.

Source: openai/harmony, src/encoding.rs, json_schema_to_typescript and template_tools_section. Only what all of Jinja2,
llama.cpp's engine and LM Studio's understand is used: no filter but tojson and join, no arguments to tojson.
"""

from __future__ import annotations

TOOL_MACROS = r"""
{#- A JSON value without spaces. -#}
{%- macro compact(value) -%}
    {%- if value is mapping -%}
        {{- "{" -}}
        {%- for key, item in value.items() -%}
            {{- ("" if loop.first else ",") + (key | tojson) + ":" + compact(item) -}}
        {%- endfor -%}
        {{- "}" -}}
    {%- elif value is sequence and value is not string -%}
        {{- "[" -}}
        {%- for item in value -%}{{- ("" if loop.first else ",") + compact(item) -}}{%- endfor -%}
        {{- "]" -}}
    {%- else -%}
        {{- value | tojson -}}
    {%- endif -%}
{%- endmacro -%}

{#- The words of a schema's default. A string is quoted, unless it is one of an enum's and `bare` says so. -#}
{%- macro default_of(schema, bare) -%}
    {%- set is_enum = "enum" in schema and schema["enum"] is sequence and schema["enum"] | length > 0 -%}
    {%- if schema["default"] is not string -%}
        {{- "default: " + compact(schema["default"]) -}}
    {%- elif not is_enum -%}
        {{- 'default: "' + schema["default"] + '"' -}}
    {%- else -%}
        {{- "default: " + (schema["default"] if bare else compact(schema["default"])) -}}
    {%- endif -%}
{%- endmacro -%}

{#- A schema's type, with null if it is nullable and does not say so already. -#}
{%- macro nullable_type(schema, indent) -%}
    {%- set type = typescript(schema, indent) -%}
    {{- type -}}
    {%- if schema is mapping and "nullable" in schema and schema["nullable"] == true and "null" not in type -%}
        {{- " | null" -}}
    {%- endif -%}
{%- endmacro -%}

{#- The comment behind a variant of a oneOf. `known` is a description that was written already. -#}
{%- macro variant_comment(schema, known, bare) -%}
    {%- if schema is mapping -%}
        {%- set text = schema["description"] if "description" in schema else none -%}
        {%- set has_text = text is string and text != known -%}
        {%- if has_text or "default" in schema -%}
            {{- " // " + (text if has_text else "") -}}
            {{- " " if has_text and "default" in schema else "" -}}
            {{- default_of(schema, bare) if "default" in schema else "" -}}
        {%- endif -%}
    {%- endif -%}
{%- endmacro -%}

{#- The comments above a property. -#}
{%- macro property_comments(schema, indent) -%}
    {%- if "title" in schema and schema["title"] is string -%}
        {{- indent + "// " + schema["title"] + "\n" + indent + "//\n" -}}
    {%- endif -%}
    {%- if "oneOf" not in schema and "description" in schema and schema["description"] is string -%}
        {{- indent + "// " + schema["description"] + "\n" -}}
    {%- endif -%}
    {%- set examples = schema["examples"] if "examples" in schema else none -%}
    {%- if examples is sequence and examples is not string and examples | length > 0 -%}
        {{- indent + "// Examples:\n" -}}
        {%- for example in examples -%}
            {%- if example is string -%}{{- indent + '// - "' + example + '"\n' -}}{%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro -%}

{#- A property that is one of several types: a line for each. -#}
{%- macro one_of_property(name, schema, indent) -%}
    {%- set variants = schema["oneOf"] -%}
    {%- set text = schema["description"] if "description" in schema and schema["description"] is string else none -%}
    {%- set first = variants[0] if variants | length > 0 else none -%}
    {%- set first_text = first["description"] if first is mapping and "description" in first else none -%}
    {%- set is_above = text is not none and text != first_text -%}
    {%- if is_above -%}{{- indent + "// " + text + "\n" -}}{%- endif -%}
    {%- if "default" in schema -%}{{- indent + "// " + default_of(schema, true) + "\n" -}}{%- endif -%}
    {{- indent + name + ":\n" -}}
    {%- for variant in variants -%}
        {{- indent + " | " + nullable_type(variant, indent + "   ") -}}
        {%- if loop.first and is_above and variant is mapping and "description" in variant -%}
            {{- variant_comment(variant, variant["description"], true) -}}
        {%- else -%}
            {{- variant_comment(variant, text, true) -}}
        {%- endif -%}
        {{- "\n" -}}
    {%- endfor -%}
    {{- indent + ",\n" -}}
{%- endmacro -%}

{#- An object's properties between braces. -#}
{%- macro object_type(schema, indent) -%}
    {%- if "description" in schema and schema["description"] is string -%}
        {{- indent + "// " + schema["description"] + "\n" -}}
    {%- endif -%}
    {{- "{\n" -}}
    {%- if "properties" in schema and schema["properties"] is mapping -%}
        {%- set required = schema["required"] if "required" in schema else none -%}
        {%- set required = required if required is sequence and required is not string else [] -%}
        {%- for key, property in schema["properties"].items() -%}
            {%- set name = key + ("" if key in required else "?") -%}
            {%- if property is not mapping -%}
                {{- indent + name + ": any,\n" -}}
            {%- else -%}
                {{- property_comments(property, indent) -}}
                {%- if "oneOf" in property and property["oneOf"] is sequence and property["oneOf"] is not string -%}
                    {{- one_of_property(name, property, indent) -}}
                {%- else -%}
                    {{- indent + name + ": " + nullable_type(property, indent + "    ") + "," -}}
                    {%- if "default" in property and "oneOf" not in property -%}
                        {{- " // " + default_of(property, true) -}}
                    {%- endif -%}
                    {{- "\n" -}}
                {%- endif -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{- indent + "}" -}}
{%- endmacro -%}

{#- A string, or those that an enum allows. -#}
{%- macro string_type(schema) -%}
    {%- set found = namespace(any=false) -%}
    {%- if "enum" in schema and schema["enum"] is sequence and schema["enum"] is not string -%}
        {%- for value in schema["enum"] -%}
            {%- if value is string -%}
                {{- (" | " if found.any else "") + '"' + value + '"' -}}
                {%- set found.any = true -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{- "" if found.any else "string" -}}
{%- endmacro -%}

{#- The type of any schema. -#}
{%- macro typescript(schema, indent) -%}
    {%- if schema is not mapping -%}
        {{- "any" -}}
    {%- elif "oneOf" in schema and schema["oneOf"] is sequence and schema["oneOf"] is not string -%}
        {%- for variant in schema["oneOf"] -%}
            {{- "\n" + indent + " | " + nullable_type(variant, indent + "   ") -}}
            {{- variant_comment(variant, none, false) -}}
        {%- endfor -%}
    {%- elif "type" not in schema -%}
        {{- "any" -}}
    {%- elif schema["type"] is not string -%}
        {%- set found = namespace(any=false) -%}
        {%- if schema["type"] is sequence -%}
            {%- for type in schema["type"] -%}
                {%- if type is string -%}
                    {{- (" | " if found.any else "") + ("number" if type == "integer" else type) -}}
                    {%- set found.any = true -%}
                {%- endif -%}
            {%- endfor -%}
        {%- endif -%}
        {{- "" if found.any else "any" -}}
    {%- elif schema["type"] == "object" -%}
        {{- object_type(schema, indent) -}}
    {%- elif schema["type"] == "string" -%}
        {{- string_type(schema) -}}
    {%- elif schema["type"] == "number" or schema["type"] == "integer" -%}
        {{- "number" -}}
    {%- elif schema["type"] == "boolean" -%}
        {{- "boolean" -}}
    {%- elif schema["type"] == "array" -%}
        {{- typescript(schema["items"], indent) + "[]" if "items" in schema else "Array<any>" -}}
    {%- else -%}
        {{- "any" -}}
    {%- endif -%}
{%- endmacro -%}

{#- The section of a developer message that declares the tools. -#}
{%- macro tools_section(tools) -%}
    {{- "# Tools\n\n## functions\n\nnamespace functions {\n\n" -}}
    {%- for tool in tools -%}
        {%- set function = tool.function if "function" in tool else tool -%}
        {%- if "description" in function and function.description -%}
            {%- for line in function.description.split("\n") -%}
                {#- A line break at the end begins no line. -#}
                {%- if not (loop.last and line == "") -%}
                    {{- "// " + (line[:-1] if line.endswith("\r") and not loop.last else line) + "\n" -}}
                {%- endif -%}
            {%- endfor -%}
        {%- endif -%}
        {%- if "parameters" in function and function.parameters is not none -%}
            {{- "type " + function.name + " = (_: " + typescript(function.parameters, "") + ") => any;\n\n" -}}
        {%- else -%}
            {{- "type " + function.name + " = () => any;\n\n" -}}
        {%- endif -%}
    {%- endfor -%}
    {{- "} // namespace functions" -}}
{%- endmacro -%}
"""
