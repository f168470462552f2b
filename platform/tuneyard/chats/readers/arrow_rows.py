"""Rows of Arrow batches, which Parquet files and Hugging Face datasets hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa

from tuneyard.chats.readers.raw_row import RawRow
from tuneyard.chats.strict_json import parse_json

BATCH_ROWS = 256

Decoder = Callable[[Any], Any]


def read_batches(batches: Iterable[pa.RecordBatch], name: str) -> Iterator[RawRow]:
    """The rows of batches, which `name` names in messages.

    Null members are left out, as every row of a columnar file has every key. Values of Arrow's type JSON are parsed,
    and keep their nulls.
    """
    number = 0
    schema, decode = None, None
    for batch in batches:
        if batch.schema != schema:
            schema = batch.schema
            decode = _json_decoder(pa.struct(list(schema)))
        for value in _values(batch):
            number += 1
            yield _to_row(value, decode, f"{name}:row {number}")


def _values(batch: pa.RecordBatch) -> Iterator[Any]:
    """The rows of a batch; the error in place of one with a text that is not UTF-8."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError as e:
        if batch.num_rows == 1:
            yield e
            return
        for index in range(batch.num_rows):
            yield from _values(batch.slice(index, 1))


def _to_row(value: Any, decode: Decoder | None, where: str) -> RawRow:
    if isinstance(value, UnicodeDecodeError):
        byte = value.object[value.start]
        return RawRow(where, problem=f"a text is not UTF-8: byte 0x{byte:02x}. Write the file again, in UTF-8.")
    row = _drop_nulls(value)
    try:
        return RawRow(where, row if decode is None else decode(row))
    except (ValueError, RecursionError) as e:
        return RawRow(where, problem=f"a column of type JSON cannot be read: {e}.")


def _drop_nulls(value: Any) -> Any:
    """The value without null members, at any depth. Null items of a list stay."""
    if isinstance(value, dict):
        return {key: _drop_nulls(item) for key, item in value.items() if item is not None}
    return [_drop_nulls(item) for item in value] if isinstance(value, list) else value


def _json_decoder(kind: pa.DataType) -> Decoder | None:
    """A function that parses the JSON texts in a value of Arrow's type `kind`; None if the type holds no JSON.

    `datasets` writes columns of its type Json as Arrow's extension type `arrow.json`, also inside lists and structs.
    """
    if isinstance(kind, pa.JsonType):
        return _parse_cell
    if pa.types.is_struct(kind):
        decoders = {field.name: decoder for field in kind if (decoder := _json_decoder(field.type)) is not None}
        return _struct_decoder(decoders) if decoders else None
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        decoder = _json_decoder(kind.value_type)
        return None if decoder is None else _list_decoder(decoder)
    return None


def _parse_cell(text: str | None) -> Any:
    """The value of a JSON text. Raises ValueError if it is not valid, or if a key stands twice in an object."""
    if text is None:
        return None
    value, repeated = parse_json(text)
    if repeated:
        raise ValueError(f"the key {repeated[0]!r} stands twice in one object")
    return value


def _struct_decoder(decoders: dict[str, Decoder]) -> Decoder:
    def decode(value: dict[str, Any] | None) -> Any:
        if value is None:
            return None
        return {key: decoders[key](item) if key in decoders else item for key, item in value.items()}

    return decode


def _list_decoder(decoder: Decoder) -> Decoder:
    return lambda items: None if items is None else [decoder(item) for item in items]
