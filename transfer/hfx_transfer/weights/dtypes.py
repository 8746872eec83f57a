"""The element types that weights come in, by the names of the safetensors format; no torch here."""

from math import prod

BITS_PER_ELEMENT = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64, "C128": 128,
}  # fmt: skip
"""How wide one element of each type is."""

TORCH_NAMES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32",
    "I32": "int32", "U64": "uint64", "I64": "int64", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz", "F16": "float16", "BF16": "bfloat16", "F32": "float32",
    "F64": "float64", "C64": "complex64", "C128": "complex128",
}  # fmt: skip
"""What each type is called as an attribute of torch; an old torch lacks the newest."""


def num_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Return the size of a contiguous tensor; a scalar has the shape ().

    Raises:
        KeyError: the type is not one of `BITS_PER_ELEMENT`.
    """
    return BITS_PER_ELEMENT[dtype] * prod(shape) // 8
