"""The encodings, and what bounds them."""

import base64
import tracemalloc
import zlib

import numpy as np
import pytest
from posts import encode

import schemas


def decode(text: str, limit: int = 10_000_000) -> bytes:
    return b"".join(schemas.decode(text, limit))


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", bytes(3_000_000), np.random.default_rng(0).bytes(3_000_000)])
@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_what_was_encoded_is_decoded(content: bytes, level: int) -> None:
    text = base64.b64encode(zlib.compress(content, level)).decode()
    assert schemas.ENCODED.fullmatch(text)
    assert decode(text) == content
    assert decode("\n ".join(text[i : i + 76] for i in range(0, len(text), 76))) == content


GOOD = encode(b"some content")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is corrupt: not base64"),
        ("eJ", "is corrupt: not base64"),
        (GOOD[:-1], "is corrupt: not base64"),
        (GOOD + "=", "is corrupt: not base64"),
        ("eJ==" + GOOD, "is corrupt: not base64"),
        (GOOD[:8], "is corrupt: its end is missing"),
        ("eJxx" + GOOD[4:], "is corrupt: not what zlib compressed"),
        (base64.b64encode(zlib.compress(b"x") + b"y").decode(), "is corrupt: bytes follow the end"),
        (base64.b64encode(zlib.compress(b"x")[:-1] + b"!").decode(), "is corrupt: not what zlib compressed"),
    ],
)
def test_what_is_corrupt_is_refused(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        decode(text)


def test_a_bomb_costs_no_memory() -> None:
    bomb = encode(bytes(300_000_000))
    tracemalloc.start()
    with pytest.raises(ValueError, match="unpacks to more than 200 MB"):
        for _ in schemas.decode(bomb, 200_000_000):
            pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000


def test_of_a_value_at_its_limit_all_is_unpacked() -> None:
    assert decode(encode(bytes(1_000_000)), 1_000_000) == bytes(1_000_000)


@pytest.mark.parametrize("text", ["eJ is how this begins.", "eJ,x\n", "import numpy", "", "EJabc"])
def test_plain_text_is_not_taken_as_encoded(text: str) -> None:
    assert not schemas.ENCODED.fullmatch(text)


@pytest.mark.parametrize("text", ["eJ", " e\nJ\tabc=", "eAAA", "eF+/", "eNx"])
def test_what_begins_as_zlib_and_is_base64_is_taken_as_encoded(text: str) -> None:
    assert schemas.ENCODED.fullmatch(text)


def test_indices_and_predictions_are_kept_to_the_bit() -> None:
    indices = np.array([0, 2**62, 5])
    assert schemas.unpack_indices(schemas.pack_indices(indices)).tolist() == indices.tolist()
    predictions = np.random.default_rng(0).random((5, 3)).astype(">f8")
    unpacked = schemas.unpack_predictions(schemas.pack_predictions(predictions.T))
    assert unpacked.reshape(3, 5).tolist() == predictions.T.tolist()
