"""The wire format against the protobuf package, and every way in which bytes can be no message."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verydeep.weights.readers.protobuf import Message, WireError, fields, map_file

INTEGERS = st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20)
FLOATS = st.lists(st.floats(width=32, allow_nan=False), max_size=20)


@given(dims=INTEGERS, packed=INTEGERS, floats=FLOATS, doubles=st.lists(st.floats(allow_nan=False)), name=st.text())
def test_what_protobuf_writes_is_read(dims, packed, floats, doubles, name):
    tensor = onnx.TensorProto(dims=dims, int64_data=packed, float_data=floats, double_data=doubles, name=name)
    message = Message(memoryview(tensor.SerializeToString()))
    assert message.integers(1) == dims
    assert message.integers(7) == packed
    assert message.floats(4).tolist() == list(tensor.float_data)
    assert message.floats(10, "<f8").tolist() == doubles
    assert message.text(8) == name.encode()[:1000].decode(errors="replace")
    assert message.integer(2, 5) == 5


def test_numbers_one_by_one_are_numbers_too():
    attribute = onnx.AttributeProto(floats=[1.5, -2], ints=[3, -4], f=0.5)
    message = Message(memoryview(attribute.SerializeToString()))
    assert message.floats(7).tolist() == [1.5, -2]
    assert message.integers(8) == [3, -4]
    assert (message.number(2, 1), message.number(99, 1)) == (0.5, 1)


def test_packed_numbers_are_not_copied():
    data = bytearray(onnx.TensorProto(float_data=[1, 2, 3]).SerializeToString())
    numbers = Message(memoryview(data)).floats(4)
    assert np.shares_memory(numbers, np.frombuffer(data, np.uint8))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x80", "ends within a number"),
        (b"\x08" + b"\xff" * 10 + b"\x01", "more than ten bytes"),
        (b"\x0a\x05abc", "has 5 bytes where 3 are left"),
        (b"\x0d\x00\x00", "has 4 bytes where 2 are left"),
        (b"\x0b", "wire type 3"),
        (b"\x00\x00", "field 0"),
    ],
)
def test_bytes_that_are_no_message(data, message):
    with pytest.raises(WireError, match=message):
        list(fields(memoryview(data)))


def test_bounds(tmp_path):
    with pytest.raises(WireError, match="more than 3 fields"):
        Message(memoryview(b"\x08\x01" * 4), 3)
    with pytest.raises(WireError, match="more than 2000 messages"):
        Message(memoryview(b"\x0a\x00" * 2001)).messages(1)
    with pytest.raises(WireError, match="no whole number of 4-byte numbers"):
        Message(memoryview(b"\x0a\x03abc")).floats(1)
    with pytest.raises(WireError, match="is a number and no bytes"):
        Message(memoryview(b"\x08\x01")).parts(1)
    (tmp_path / "empty").touch()
    with pytest.raises(WireError, match="it is empty"):
        map_file(tmp_path / "empty")
