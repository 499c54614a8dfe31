"""Turns the bytes of a request into its typed form, and finds the place of what is wrong.

Decoding is one compiled pass. Only where it fails is the body looked at again, to name the exact
index. A key given twice counts with its last value.
"""

import contextlib
import re
from typing import Any, TypeVar

import msgspec

from app.errors import InvalidInputError, MalformedBodyError
from app.gateway.forecast_schemas import ForecastRequest, Values
from app.tensors import LARGEST_MAGNITUDE

MAX_DEPTH = 32
OUT_OF_RANGE = f"the magnitude of a number may be at most {LARGEST_MAGNITUDE:g}"

_Content = TypeVar("_Content")

_MAX_NAME_LENGTH = 64
_COLUMNS_DEPTH = 3
_TYPE_NAMES = {"float": "number", "int": "integer", "str": "string", "bool": "boolean"}
_PLAIN = {
    "Expected": "expected",
    "Object": "object",
    " | null": " or null",
    " | array": ", array",
    "`": "",
    ">= 1.0": ">= 1",
    "multiple of 1.0": "multiple of 1",
}
_TYPES = re.compile(rf"\b({'|'.join(_TYPE_NAMES)})\b")
_PLACE = re.compile(r"(.*) - at `\$([^`]*)`", re.DOTALL)
_STEP = re.compile(r"\.(\w+)|\[(\d+|\.\.\.)\]")
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_OFFSET = re.compile(r"\(byte (\d+)\)")
_NOT_FINITE = re.compile(rb"[-+]?\b(?:nan|inf(?:inity)?)\b", re.IGNORECASE)
_DEEP = re.compile(rb'(?>[\[{]\s*+(?:"[^"\\]*+"\s*+:\s*+)?+){%d}' % (MAX_DEPTH + 1))


class _OutlineSeries(msgspec.Struct):
    past_covariates: dict[str, msgspec.Raw] | None = None
    future_covariates: dict[str, msgspec.Raw] | None = None
    static_covariates: dict[str, msgspec.Raw] | None = None


class _OutlineSequence(msgspec.Struct):
    features: dict[str, msgspec.Raw] | None = None


class _Outline(msgspec.Struct):
    series: list[_OutlineSeries] = []
    sequences: list[_OutlineSequence] = []


_decoder = msgspec.json.Decoder(ForecastRequest)
_outline_decoder = msgspec.json.Decoder(_Outline)
_values_decoder = msgspec.json.Decoder(Values)
_static_decoder = msgspec.json.Decoder(float | str | None)


def decode_request(body: bytes) -> ForecastRequest:
    """Decode a request of the native API, as ``decode_body``."""
    return decode_body(body, _decoder)


def decode_body(body: bytes, decoder: msgspec.json.Decoder[_Content]) -> _Content:
    """Decode a body strictly.

    Raises:
        MalformedBodyError: The body is no JSON, is not UTF-8, or is nested too deep.
        InvalidInputError: A field is missing, unknown or of the wrong type; its pointer leads to
            the exact index.
    """
    if not body.strip():
        raise MalformedBodyError("the body is empty; a JSON object is needed")
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        _check_depth(body)
        raise _to_invalid_input(str(error), body) from error
    except msgspec.DecodeError as error:
        _check_depth(body)
        raise _to_refusal(str(error), body, decoder) from error
    except UnicodeDecodeError as error:
        raise MalformedBodyError("the body is not UTF-8") from error


def decode_lines(body: bytes, decoder: msgspec.json.Decoder[_Content], name: str) -> list[_Content]:
    """Decode JSON Lines strictly; pointers begin with ``name`` and the number of the line from 0.

    Raises:
        GatecastError: As ``decode_body``.
    """
    lines = [line for line in body.splitlines() if line.strip()]
    if not lines:
        raise MalformedBodyError("the body is empty; a line of JSON is needed")
    contents: list[_Content] = []
    for place, line in enumerate(lines):
        try:
            contents.append(decode_body(line, decoder))
        except InvalidInputError as error:
            raise InvalidInputError(str(error), f"/{name}/{place}{error.pointer}") from error
        except MalformedBodyError as error:
            raise MalformedBodyError(f"line {place + 1}: {error}") from error
    return contents


def escape_pointer(name: str) -> str:
    """Write ``name`` as one step of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def _check_depth(body: bytes) -> None:
    # Types alone bound the depth of what is accepted; this only names the limit.
    if _DEEP.search(body):
        raise MalformedBodyError(f"the JSON is nested deeper than {MAX_DEPTH} levels")


def _to_invalid_input(message: str, body: bytes) -> InvalidInputError:
    match = _PLACE.fullmatch(message)
    detail, path = (match[1], match[2]) if match else (message, "")
    pointer = _pointer_of(path, body)
    if unknown := _UNKNOWN_FIELD.fullmatch(detail):
        return _to_unknown_field(unknown[1], pointer)
    if detail == "Number out of range":
        detail = OUT_OF_RANGE
    detail = _TYPES.sub(lambda found: _TYPE_NAMES[found[1]], detail)
    for ours, plain in _PLAIN.items():
        detail = detail.replace(ours, plain)
    fields = [step for step in pointer.split("/") if step and not step.isdecimal()]
    return InvalidInputError(f"{fields[-1] if fields else 'body'}: {detail}", pointer)


def _to_unknown_field(name: str, pointer: str) -> InvalidInputError:
    if len(name) > _MAX_NAME_LENGTH:
        return InvalidInputError("unknown field with a very long name", pointer)
    return InvalidInputError(f"unknown field {name}", f"{pointer}/{escape_pointer(name)}")


def _pointer_of(path: str, body: bytes) -> str:
    pointer = ""
    for field, index in _STEP.findall(path):
        step = field or index
        if step == "...":
            step = escape_pointer(_wrong_key(pointer, body))
        pointer += f"/{step}"
    return pointer


def _wrong_key(pointer: str, body: bytes) -> str:
    """Find which of the columns at ``pointer`` is wrong; the decoder does not say."""
    if not pointer.startswith(("/series/", "/sequences/")) or pointer.count("/") != _COLUMNS_DEPTH:
        return "*"
    _, rows, index, field = pointer.split("/")
    decoder = _static_decoder if field == "static_covariates" else _values_decoder
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        columns: dict[str, msgspec.Raw] = getattr(
            getattr(_outline_decoder.decode(body), rows)[int(index)], field
        )
        for key, values in columns.items():
            if len(key) <= _MAX_NAME_LENGTH and not _can_decode(decoder, values):
                return key
    return "*"


def _can_decode(decoder: msgspec.json.Decoder[Any], values: msgspec.Raw) -> bool:
    try:
        decoder.decode(values)
    except msgspec.DecodeError:
        return False
    return True


def _to_refusal(
    message: str, body: bytes, decoder: msgspec.json.Decoder[Any]
) -> InvalidInputError | MalformedBodyError:
    offset = int(match[1]) if (match := _OFFSET.search(message)) else len(body)
    begin = max(0, offset - 10)
    for token in _NOT_FINITE.finditer(body, begin, offset + 10):
        if token.start() <= offset <= token.end():
            return InvalidInputError(
                "NaN and Infinity are not JSON numbers; use null where a value is missing",
                _pointer_of_token(body, *token.span(), decoder=decoder),
            )
    if match is None:
        return MalformedBodyError("the body is not valid JSON: it is cut off")
    return MalformedBodyError(f"the body is not valid JSON: see byte {offset}")


def _pointer_of_token(
    body: bytes, start: int, stop: int, *, decoder: msgspec.json.Decoder[Any]
) -> str:
    """Find the place of a token that is no JSON.

    With a boolean there, which no field takes, decoding fails at that place and says where.
    """
    patched = body[:start] + b"true" + body[stop:]
    try:
        decoder.decode(patched)
    except msgspec.ValidationError as error:
        match = _PLACE.fullmatch(str(error))
        return _pointer_of(match[2], patched) if match else ""
    except msgspec.DecodeError:
        return ""
    return ""
