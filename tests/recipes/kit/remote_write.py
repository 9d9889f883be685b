"""What Prometheus writes: `WriteRequest` of protocol buffers in a block of snappy."""

import struct


def series(body):
    """(labels, [(time in ms, value)]) of each series in a body."""
    for number, message in fields(uncompress(body)):
        if number != 1:
            continue
        labels, samples = {}, []
        for kind, part in fields(message):
            values = dict(fields(part)) if kind in (1, 2) else {}
            if kind == 1:
                labels[values[1].decode()] = values[2].decode()
            elif kind == 2:
                samples.append((values[2], struct.unpack("<d", values.get(1, bytes(8)))[0]))
        yield labels, samples


def fields(message):
    """(number, value) of each field: an integer, or bytes."""
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = varint(message, at)
        else:
            size, at = (8, at) if kind == 1 else (4, at) if kind == 5 else varint(message, at)
            value, at = message[at:at + size], at + size
        yield number, value


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def uncompress(data):
    """A block in the format of snappy: literals, and copies of what came before."""
    length, at = varint(data, 0)
    out = bytearray()
    while at < len(data):
        tag = data[at]
        kind, size, at = tag & 3, tag >> 2, at + 1
        if kind == 0:
            if size >= 60:
                more = size - 59
                size, at = int.from_bytes(data[at:at + more], "little"), at + more
            out += data[at:at + size + 1]
            at += size + 1
            continue
        if kind == 1:
            count, offset, at = (size & 7) + 4, (tag >> 5) << 8 | data[at], at + 1
        else:
            wide = 2 if kind == 2 else 4
            count, offset, at = size + 1, int.from_bytes(data[at:at + wide], "little"), at + wide
        for _ in range(count):
            out.append(out[-offset])
    if len(out) != length:
        raise ValueError("a snappy block of another length")
    return bytes(out)
