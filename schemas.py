"""JSON in and out: what a request may hold, what an answer holds, and the encodings of files, indices and predictions.

A value travels as base64(zlib(bytes)): indices as little-endian int64, predictions as little-endian float64.
This module alone (apart from the client, post_api.py) knows how. In the database, the same bytes lie as zlib left them.
"""

import base64
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from unicodedata import normalize

import numpy as np
from flask import current_app
from marshmallow import RAISE, Schema, ValidationError, fields, validates_schema

from files import CHUNK_SIZE, Spool, name_fault
from models import MAX_INTEGER, NAME_LENGTH, State

MB = 1_000_000  # bytes
LEVEL = 1  # of compression: predictions hardly shrink more at higher ones, which cost ten times as much
BASE64_STEP = 4 * 2**18  # characters decoded at a time
CORRUPT = zlib.error  # what unpacking raises, that of gzip too
MAX_SEED = 2**32 - 1  # of numpy's random state
MOST_SECONDS = 30 * 24 * 3600  # of a data set's time limit
MOST_MB = 10**7  # of a data set's memory limit
TARGETS_LENGTH = 10_000  # characters of all names of target columns
MOST_UNKNOWN = 20  # fields that an error names
SHOWN = 60  # characters of a refused value that an error repeats
ENCODED = re.compile(r"\s*e\s*[JAFN][A-Za-z0-9+/=\s]*", re.ASCII)  # how base64 of a zlib header begins
FOLD_STATES = [State.TODO, State.TRAINED, State.VALIDATED, State.TESTED, State.ERROR]
FORCES = ["submission_fold", "submission, submission_fold"]


# ---- Encodings


def decompress(compressed: Iterator[bytes], limit: int) -> Iterator[bytes]:
    """Yield what zlib-compressed pieces unpack to, CHUNK_SIZE bytes at most at a time.

    Raises ValueError, which says the fault, for corrupt data and beyond `limit` bytes.
    """
    stream, size = zlib.decompressobj(), 0
    for piece in compressed:
        while True:
            try:
                chunk = stream.decompress(piece, CHUNK_SIZE)
            except zlib.error:
                raise ValueError("is corrupt: not what zlib compressed") from None
            size += len(chunk)
            if size > limit:
                raise ValueError(f"unpacks to more than {limit / MB:g} MB")
            yield chunk
            piece = stream.unconsumed_tail
            if not piece and len(chunk) < CHUNK_SIZE:
                break
        if stream.unused_data:
            raise ValueError("is corrupt: bytes follow the end of what zlib compressed")
    if not stream.eof:
        raise ValueError("is corrupt: its end is missing")


def decode(text: str, limit: int) -> Iterator[bytes]:
    """Yield the bytes that base64(zlib(bytes)) stands for; raises ValueError as `decompress` does."""
    text = re.sub(r"\s+", "", text, flags=re.ASCII)
    if len(text) % 4 or not re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", text):
        raise ValueError("is corrupt: not base64")
    return decompress((base64.b64decode(text[i : i + BASE64_STEP]) for i in range(0, len(text), BASE64_STEP)), limit)


def pack_indices(indices: np.ndarray) -> bytes:
    """Return row indices as they are stored."""
    return zlib.compress(indices.astype("<i8").tobytes(), LEVEL)


def unpack_indices(packed: bytes) -> np.ndarray:
    """Return stored row indices as an int64 array, which cannot be written to."""
    return np.frombuffer(zlib.decompress(packed), "<i8").astype(np.int64, copy=False)


def pack_predictions(predictions: np.ndarray) -> bytes:
    """Return predictions, of shape (n,) or (n, k), as they are stored."""
    return zlib.compress(predictions.astype("<f8").tobytes(), LEVEL)


def unpack_predictions(packed: bytes, shape: list[int] | None = None) -> np.ndarray:
    """Return stored predictions as a float64 array: flat, or of the shape that is stored beside them."""
    return np.frombuffer(zlib.decompress(packed), "<f8").astype(np.float64).reshape(-1 if shape is None else shape)


def npy(array: np.ndarray) -> bytes:
    """Return an array as a .npy file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def shown(value: Any) -> str:
    """Return a refused value as an error may repeat it."""
    try:
        text = json.dumps(value, default=str, ensure_ascii=False)
    except RecursionError:  # json.loads goes a little deeper
        text = "what is nested too deep"
    return shortened(text).encode("utf-8", "replace").decode()


def shortened(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def counted(n: int, what: str) -> str:
    """Say how many indices are `what`."""
    return f"1 index is {what}" if n == 1 else f"{n} indices are {what}"


def number(text: str, kind: type[int] | type[float]) -> float | str:
    """Return the number that a form's text is, or the text; Python also takes 1_000, and digits of other scripts."""
    with suppress(ValueError):
        if text.isascii() and "_" not in text:
            return kind(text)
    return text


# ---- Fields of requests. `from_form` reads the texts that a form has for the field.


class Field(fields.Field):
    """What all fields of requests share. `json_schema` completes what the OpenAPI document says of them."""

    default_error_messages = {"required": "This field is required.", "null": "This field may not be null."}
    json_schema: dict[str, Any] = {}

    def from_form(self, texts: list[str]) -> Any:
        """Return the value that JSON would have; a text that cannot be one is left for `deserialize` to refuse."""
        if len(texts) > 1:
            raise ValidationError(f"This field came {len(texts)} times; expected it once.")
        return self.from_text(texts[0])

    def from_text(self, text: str) -> Any:
        return text


class Text(Field, fields.String):
    """A text that both databases can store."""

    def __init__(
        self, max_length: int = 1000, fault: Callable[[str], str | None] = lambda _: None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.max_length, self.fault = max_length, fault
        self.json_schema = {"minLength": 1, "maxLength": max_length}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError(f"{shown(value)} is not a text; expected a string.")
        if not value.strip():
            raise ValidationError("This field may not be blank.")
        if len(value) > self.max_length:
            raise ValidationError(f"The text has {len(value)} characters; expected at most {self.max_length}.")
        if "\0" in value or value != value.encode("utf-8", "replace").decode():
            raise ValidationError(f"{shown(value)} is not UTF-8 text without NUL; expected such a text.")
        if fault := self.fault(value):
            raise ValidationError(f"{shown(value)} {fault}; expected a safe file name.")
        return value


class Choice(Field, fields.String):
    """One of a few texts."""

    def __init__(self, choices: list[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.choices = choices
        self.json_schema = {"enum": [*choices, None] if kwargs.get("allow_none") else choices}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        if not isinstance(value, str) or value not in self.choices:
            raise ValidationError(f"{shown(value)} means nothing; expected {' or '.join(map(shown, self.choices))}.")
        return value


class Integer(Field, fields.Integer):
    """An integer from 0 to a maximum: no boolean, no float."""

    def __init__(self, maximum: int = MAX_INTEGER, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.maximum = maximum
        self.json_schema = {"minimum": 0, "maximum": maximum}

    def from_text(self, text: str) -> int | str:
        return int(text) if re.fullmatch(r"-?[0-9]{1,25}", text) else text

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        if type(value) is not int or not 0 <= value <= self.maximum:
            raise ValidationError(f"{shown(value)} is no such integer; expected one from 0 to {self.maximum}.")
        return value


class IntegerList(Field, fields.List):
    """A list of such integers; in a form, the field stands once for each, or holds a JSON list."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(Integer(), **kwargs)

    def from_form(self, texts: list[str]) -> Any:
        listed = _json_list(texts[0]) if len(texts) == 1 else None
        return [self.inner.from_text(text) for text in texts] if listed is None else listed

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> list[int]:
        if not isinstance(value, list):
            raise ValidationError(f"{shown(value)} is not a list; expected a list of integers.")
        return [self.inner.deserialize(item) for item in value]


class Fraction(Field, fields.Float):
    """A number between 0 and 1, both excluded."""

    json_schema = {"exclusiveMinimum": 0, "exclusiveMaximum": 1}

    def from_text(self, text: str) -> float | str:
        return number(text, float)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> float:
        if type(value) not in (int, float) or not 0 < value < 1:
            raise ValidationError(f"{shown(value)} is not between 0 and 1; expected a number above 0 and below 1.")
        return value


class Limit(Field, fields.Float):
    """A limit of what a fold may use: more than 0, in a unit; `whole` for an integer."""

    def __init__(self, maximum: int, unit: str, whole: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.maximum, self.unit, self.whole = maximum, unit, whole
        kind = ["integer", "null"] if whole else ["number", "null"]
        self.json_schema = {"type": kind, "exclusiveMinimum": 0, "maximum": maximum}

    def from_text(self, text: str) -> float | str:
        return number(text, int if self.whole else float)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> float:
        if type(value) not in ((int,) if self.whole else (int, float)) or not 0 < value <= self.maximum:
            kind = "an integer" if self.whole else "a number"
            raise ValidationError(
                f"{shown(value)} is no such limit; expected {kind} of {self.unit} above 0, at most {self.maximum}."
            )
        return value


class Boolean(Field, fields.Boolean):
    """true or false; in a form these two words."""

    def from_text(self, text: str) -> bool | str:
        return {"true": True, "false": False}.get(text.lower(), text)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError(f"{shown(value)} is not a boolean; expected true or false.")
        return value


class Indices(Field):
    """Row indices, as an int64 array: from an encoded string, or from a JSON list of integers (in a form, its text)."""

    json_schema = {
        "oneOf": [
            {"type": "string", "minLength": 1, "contentEncoding": "base64", "contentMediaType": "application/zlib"},
            {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER}},
        ]
    }

    def from_text(self, text: str) -> Any:
        listed = _json_list(text)
        return text if listed is None else listed

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> np.ndarray:
        if isinstance(value, str):
            indices = self._from_encoded(value)
        elif isinstance(value, list):
            indices = self._from_list(value)
        else:
            raise ValidationError(f"{shown(value)} is no indices; expected an encoded string or a list of integers.")
        if (negative := indices[indices < 0]).size:
            raise ValidationError(
                f"{counted(negative.size, 'negative')}; the first is {negative[0]}. Expected rows counted from 0."
            )
        return indices

    def _from_encoded(self, text: str) -> np.ndarray:
        limit = current_app.config["MAX_BODY_SIZE"] * MB
        try:
            unpacked = b"".join(decode(text, limit))
        except ValueError as error:
            raise ValidationError(f"The string {error}; expected base64(zlib(little-endian int64)).") from None
        if len(unpacked) % 8:
            raise ValidationError(f"The string unpacks to {len(unpacked)} bytes; expected 8 for each index.")
        return np.frombuffer(unpacked, "<i8").astype(np.int64)

    def _from_list(self, items: list) -> np.ndarray:
        wrong = next((item for item in items if type(item) is not int or abs(item) > MAX_INTEGER), None)
        if wrong is not None or None in items:
            raise ValidationError(f"{shown(wrong)} is no index; expected integers from 0 to {MAX_INTEGER}.")
        return np.array(items, np.int64)


def _json_list(text: str) -> list | None:
    """Return the JSON list that a form's field holds, if it does."""
    if text.lstrip().startswith("["):
        with suppress(ValueError, RecursionError):
            return json.loads(text)
    return None


class Files(Field):
    """Files by name, as spooled files: from texts, plain or encoded, or uploaded (already spooled)."""

    json_schema = {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"type": "string", "description": "plain text, or base64(zlib(bytes))"},
    }

    def from_form(self, texts: list[str]) -> Any:
        raise ValidationError("A text came; expected each file as a part of multipart/form-data with its file name.")

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> dict[str, Spool]:
        if not isinstance(value, dict) or not value:
            raise ValidationError(f"{shown(value)} holds no files; expected an object of file names and contents.")
        if len(value) > (most := current_app.config["MAX_FILES"]):
            raise ValidationError(f"{len(value)} files came; expected at most {most}.")
        for name in value:
            if fault := name_fault(name):
                raise ValidationError(f"The file name {shown(name)} {fault}; expected a safe file name.")
        if len(set(map(folded, value))) < len(value):
            alike = "Two file names differ in case or Unicode form alone"
            raise ValidationError(f"{alike}; expected names that any system keeps apart.")
        return self._open_all(value)

    def _open_all(self, contents: dict[str, Any]) -> dict[str, Spool]:
        room = current_app.config["MAX_UPLOAD_SIZE"] * MB  # for all of them
        opened = {}
        for name, content in contents.items():
            limit = min(room, current_app.config["MAX_FILE_SIZE"] * MB)
            try:
                opened[name] = self._open(content, limit)
            except ValueError as error:
                raise ValidationError(f"{shown(name)} {error}.") from None
            room -= opened[name].seek(0, 2)
        return opened

    def _open(self, content: Any, limit: int) -> Spool:
        if isinstance(content, str):
            return spool(decode(content, limit) if ENCODED.fullmatch(content) else plain(content, limit))
        if not isinstance(content, Spool):
            raise ValueError(f"is {shown(content)}; expected a string")
        if content.seek(0, 2) > limit:
            raise ValueError(f"is larger than {limit / MB:g} MB")
        return content


def folded(name: str) -> str:
    """Return what names have in common that differ in case or form alone: Unicode's canonical caseless match, D145."""
    return normalize("NFD", normalize("NFD", name).casefold())


def plain(text: str, limit: int) -> Iterator[bytes]:
    """Yield a text as UTF-8; raises ValueError where it cannot be, and beyond `limit` bytes."""
    size = 0
    for start in range(0, len(text), CHUNK_SIZE):
        try:
            chunk = text[start : start + CHUNK_SIZE].encode()
        except UnicodeEncodeError:
            raise ValueError("is not UTF-8 text") from None
        size += len(chunk)
        if size > limit:
            raise ValueError(f"is larger than {limit / MB:g} MB")
        yield chunk


def spool(chunks: Iterator[bytes]) -> Spool:
    """Return the chunks as a file, which is closed when the request forgets it."""
    file = Spool()
    file.writelines(chunks)
    return file


# ---- What requests hold


class Request(Schema):
    """A request's body. Unknown fields are refused."""

    class Meta:
        unknown = RAISE

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.error_messages = {"unknown": f"Unknown field; expected some of {', '.join(self.fields)}."}

    def handle_error(self, error: ValidationError, *_: Any, **__: Any) -> None:
        """Name unknown fields in their order, and not more of each name, and of them, than anybody reads."""
        unknown = sorted(error.messages.keys() - self.fields.keys())
        messages = {name: error.messages.pop(name) for name in unknown}
        error.messages |= {shortened(name): messages[name] for name in unknown[:MOST_UNKNOWN]}
        if more := len(unknown[MOST_UNKNOWN:]):
            error.messages["non_field_errors"] = [f"{more} more fields are unknown."]


class NewRawData(Request):
    name = Text(max_length=NAME_LENGTH, fault=name_fault, required=True)
    target_column = Text(max_length=TARGETS_LENGTH, required=True)
    workflow_elements = Text(required=True)
    files = Files(required=True)
    time_limit = Limit(MOST_SECONDS, "seconds", allow_none=True, load_default=None)
    memory_limit = Limit(MOST_MB, "MB", whole=True, allow_none=True, load_default=None)


class Split(Request):
    raw_data_id = Integer(required=True)
    held_out_test = Fraction(required=True)
    random_state = Integer(maximum=MAX_SEED, load_default=42)
    force = Boolean(load_default=False)


class RemovedRawData(Request):
    """An address's query."""

    force = Boolean(load_default=False)


class CustomSplit(Request):
    raw_data_id = Integer(required=True)


class NewSubmissionFold(Request):
    databoard_sf_id = Integer(required=True)
    databoard_s_id = Integer(required=True)
    train_is = Indices(required=True)
    test_is = Indices(required=True)
    priority = Choice(["L", "H"], load_default="L")
    raw_data = Integer(load_default=None, allow_none=True)
    files = Files(load_default=None, allow_none=True)
    force = Choice(FORCES, load_default=None, allow_none=True)

    @validates_schema(skip_on_field_errors=True)
    def check_indices(self, data: dict[str, Any], **_: Any) -> None:
        train_is, test_is = data["train_is"], data["test_is"]
        if not train_is.size:
            raise ValidationError("There is no index; expected at least one row to train on.", "train_is")
        rows, counts = np.unique(test_is, return_counts=True)
        if rows.size < test_is.size:
            repeated = rows[counts > 1]
            what = counted(repeated.size, "repeated")
            raise ValidationError(f"{what} in test_is; the first is {repeated[0]}. Expected each once.", "test_is")
        if (common := np.intersect1d(rows, train_is)).size:
            what = counted(common.size, "in both train_is and test_is")
            raise ValidationError(f"{what}; the first is {common[0]}.", "test_is")


class PredictionList(Request):
    list_submission_fold = IntegerList(required=True)


class NewPredictions(Request):
    raw_data_id = Integer(load_default=None, allow_none=True)


# ---- What answers hold


class Encoded(fields.String):
    """Indices or predictions: base64 of the stored zlib-compressed bytes."""

    def _serialize(self, value: bytes | None, *_: Any, **__: Any) -> str | None:
        return None if value is None else base64.b64encode(value).decode("ascii")


def text_of(*states: str, **kwargs: Any) -> fields.String:
    """Declare a text that is one of a few."""
    values = [*states, None] if kwargs.get("allow_none") else [*states]
    return fields.String(metadata={"enum": values}, **kwargs)


def seconds() -> fields.Float:
    return fields.Float(metadata={"description": "s; 0.0 until known"})


def kilobytes() -> fields.Float:
    return fields.Float(metadata={"description": "kB, peak resident memory; 0.0 until known"})


class Classes(fields.List):
    """The names of the probabilities' columns; for several targets, a list of names for each.

    Null where values are predicted, and until there are predictions.
    """

    def __init__(self) -> None:
        super().__init__(fields.Raw(), allow_none=True, metadata={"description": "of the columns of predictions"})

    def _serialize(self, value: list | None, attr: str | None, fold: Any, **_: Any) -> list | None:
        columns = (fold.predictions_shape or {}).get("test_predictions", [])[1:]
        n = sum(len(item) if isinstance(item, list) else 1 for item in value or ())
        return value if columns == [n] else None


class Shapes(fields.Dict):
    """The shapes of both predictions by their names; null until there are any."""

    def __init__(self) -> None:
        shape = fields.List(fields.Integer())
        super().__init__(keys=fields.String(), values=shape, allow_none=True, metadata={"description": "rows, columns"})


class Versions(fields.Dict):
    """The versions of Python and the libraries that the fold ran with; null until it has run."""

    def __init__(self) -> None:
        what = {"description": "of python, numpy, pandas and scikit-learn"}
        super().__init__(keys=fields.String(), values=fields.String(), allow_none=True, metadata=what)


def hash_of(what: str) -> fields.String:
    return fields.String(allow_none=True, metadata={"description": f"SHA-256 of the names and files of the {what}"})


class RawData(Schema):
    id = fields.Integer()
    name = fields.String()
    files_path = fields.String()
    workflow_elements = fields.String()
    target_column = fields.String()
    time_limit = fields.Float(allow_none=True)
    memory_limit = fields.Integer(allow_none=True)
    split_state = text_of(State.TODO, State.DONE, State.ERROR, allow_none=True)
    n_train = fields.Integer(allow_none=True)
    n_test = fields.Integer(allow_none=True)
    log_messages = fields.String(allow_none=True)


class Task(Schema):
    task_id = fields.String()


class SubmissionFold(Schema):
    databoard_sf_id = fields.Integer()
    databoard_s = fields.Integer()
    train_is = Encoded()
    test_is = Encoded()
    priority = text_of("L", "H")
    task_id = fields.String()
    state = text_of(*FOLD_STATES)
    cause = fields.String(allow_none=True)
    full_train_predictions = Encoded(allow_none=True)
    test_predictions = Encoded(allow_none=True)
    predictions_shape = Shapes()
    classes = Classes()
    log_messages = fields.String(allow_none=True)
    train_time = seconds()
    validation_time = seconds()
    test_time = seconds()
    train_cpu_time = seconds()
    test_cpu_time = seconds()
    train_memory = kilobytes()
    test_memory = kilobytes()
    isolation = fields.String(allow_none=True)
    versions = Versions()
    submission_hash = hash_of("submission")
    raw_data_hash = hash_of("data set")
    attempts = fields.Integer()
    queued_at = fields.DateTime(allow_none=True)
    started_at = fields.DateTime(allow_none=True)
    ended_at = fields.DateTime(allow_none=True)
    new = fields.Boolean()


class OneSubmissionFold(SubmissionFold):
    queue_position = fields.Integer(
        allow_none=True,
        metadata={"description": "waiting folds that come before it; null where it does not wait for a worker"},
    )


class Predictions(SubmissionFold):
    class Meta:
        exclude = ("train_is", "test_is", "priority", "task_id", "new")


PREDICTIONS_BESIDE = Predictions(exclude=("full_train_predictions", "test_predictions"))


def npz_entries(row: Any) -> dict[str, bytes]:
    """Return a fold's predictions as the .npy files of an archive, by name: what `Predictions` answers as JSON.

    ID/full_train_predictions and ID/test_predictions are there where there are predictions; ID/attributes is all else,
    as JSON text.
    """
    arrays = {"attributes": np.array(json.dumps(PREDICTIONS_BESIDE.dump(row)))}
    for name, shape in (row.predictions_shape or {}).items():
        arrays[name] = unpack_predictions(getattr(row, name), shape)
    return {f"{row.databoard_sf_id}/{name}.npy": npy(array) for name, array in arrays.items()}


class SubmissionFoldLight(Schema):
    class Meta:
        fields = ("databoard_sf_id", "databoard_s", "state", "new")

    databoard_sf_id = fields.Integer()
    databoard_s = fields.Integer()
    state = text_of(*FOLD_STATES)
    new = fields.Boolean()
