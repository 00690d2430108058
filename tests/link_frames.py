"""Frames of the link, made by hand."""

import zlib

from cobs import cobs

HASH = bytes.fromhex("00112233445566778899aabbccddeeff")


def packet(body, sequence=1):
    data = bytes([sequence]) + body
    return data + zlib.crc32(data).to_bytes(4, "little")


def frame(body, sequence=1):
    return cobs.encode(packet(body, sequence)) + b"\0"
