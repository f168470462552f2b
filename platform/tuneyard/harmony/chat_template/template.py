"""chat_template: a checkpoint's codec settings as a Jinja template that renders the prompts that HarmonyCodec renders.

Tuneyard renders no prompt with it: it is for programs that read a template from the model's files. Such a program
tokenizes the rendered text, so text of a user that spells a special token becomes one; HarmonyCodec keeps it text.
"""

from __future__ import annotations

import json

from tuneyard.harmony.chat_template.tool_macros import TOOL_MACROS
from tuneyard.harmony.settings import CodecSettings

_MESSAGES = r"""
{%- macro developer_message(instructions, tools) -%}
    {{- "<|start|>developer<|message|>" -}}
    {%- if instructions or not tools -%}{{- "# Instructions\n\n" + instructions -}}{%- endif -%}
    {%- if instructions and tools -%}{{- "\n\n" -}}{%- endif -%}
    {%- if tools -%}{{- tools_section(tools) -}}{%- endif -%}
    {{- "<|end|>" -}}
{%- endmacro -%}

{%- macro assistant_message(message, content, calls, with_reasoning) -%}
    {%- set reasoning = none -%}
    {%- if "reasoning_content" in message and message.reasoning_content -%}
        {%- set reasoning = message.reasoning_content -%}
    {%- elif "thinking" in message and message.thinking -%}
        {%- set reasoning = message.thinking -%}
    {%- endif -%}
    {%- if with_reasoning and reasoning -%}
        {{- "<|start|>assistant<|channel|>analysis<|message|>" + reasoning + "<|end|>" -}}
    {%- endif -%}
    {%- if content or not calls -%}
        {%- set channel = "commentary" if calls else "final" -%}
        {{- "<|start|>assistant<|channel|>" + channel + "<|message|>" + content + "<|end|>" -}}
    {%- endif -%}
    {%- for call in calls -%}
        {%- set function = call.function if "function" in call else call -%}
        {{- "<|start|>assistant to=functions." + function.name -}}
        {{- "<|channel|>commentary <|constrain|>json<|message|>" -}}
        {#- An object would be written in other words than the model's: llama.cpp sends text because of this. -#}
        {%- if function.arguments is not string -%}
            {{- raise_exception("arguments must be JSON as text") -}}
        {%- endif -%}
        {{- function.arguments -}}
        {{- "<|call|>" -}}
    {%- endfor -%}
{%- endmacro -%}

{%- set tools = tools if tools is defined and tools else [] -%}
{{- "<|start|>system<|message|>" + head -}}
{%- if date -%}{{- ("\n" if head else "") + "Current date: " + date -}}{%- endif -%}
{%- set effort = reasoning_effort if reasoning_effort is defined and reasoning_effort else effort -%}
{{- ("\n\n" if head or date else "") + "Reasoning: " + effort -}}
{%- if channels_line -%}
    {{- "\n\n# Valid channels: analysis, commentary, final. Channel must be included for every message." -}}
    {%- if tools -%}{{- "\nCalls to these tools must go to the commentary channel: 'functions'." -}}{%- endif -%}
{%- endif -%}
{{- "<|end|>" -}}

{#- Reasoning before the last user's message is not shown again. -#}
{%- set state = namespace(last_user=0, called="unknown") -%}
{%- for message in messages -%}
    {%- if message.role == "user" -%}{%- set state.last_user = loop.index0 -%}{%- endif -%}
{%- endfor -%}
{%- if tools and (not messages or messages[0].role not in ["system", "developer"]) -%}
    {{- developer_message("", tools) -}}
{%- endif -%}
{%- for message in messages -%}
    {%- set content = message.content if "content" in message and message.content else "" -%}
    {%- if message.role == "system" or message.role == "developer" -%}
        {{- developer_message(content, tools if loop.first else []) -}}
    {%- elif message.role == "user" -%}
        {{- "<|start|>user<|message|>" + content + "<|end|>" -}}
    {%- elif message.role == "tool" -%}
        {{- "<|start|>functions." + state.called + " to=assistant<|channel|>commentary<|message|>" -}}
        {{- content + "<|end|>" -}}
    {%- elif message.role == "assistant" -%}
        {%- set calls = message.tool_calls if "tool_calls" in message and message.tool_calls else [] -%}
        {{- assistant_message(message, content, calls, loop.index0 > state.last_user) -}}
        {%- if calls -%}
            {%- set last_call = calls[-1] -%}
            {%- set state.called = last_call.function.name if "function" in last_call else last_call.name -%}
        {%- endif -%}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|start|>assistant" -}}{%- endif -%}
"""


def chat_template(settings: CodecSettings) -> str:
    """The Jinja template for prompts with these settings.

    It takes `messages`, `tools`, `add_generation_prompt` and `reasoning_effort`, and the functions `raise_exception`
    and, when the date is that of the request, `strftime_now`. Content and the arguments of calls are text, as in
    OpenAI's API.
    """
    lines = []
    if settings.model_identity is not None:
        lines.append(settings.model_identity)
    if settings.knowledge_cutoff is not None:
        lines.append(f"Knowledge cutoff: {settings.knowledge_cutoff}")
    date = 'strftime_now("%Y-%m-%d")' if settings.conversation_date == "today" else _literal(settings.conversation_date)
    constants = {
        "head": _literal("\n".join(lines)),
        "date": date,
        "effort": _literal(settings.reasoning_effort),
        "channels_line": _literal(settings.channels_line),
    }
    assignments = "".join(f"{{%- set {name} = {value} -%}}\n" for name, value in constants.items())
    return assignments + TOOL_MACROS + _MESSAGES


def _literal(value: str | bool | None) -> str:
    """A Jinja literal. Jinja reads the escapes of JSON strings; characters beyond ASCII stay as they are."""
    return "none" if value is None else json.dumps(value, ensure_ascii=False)
