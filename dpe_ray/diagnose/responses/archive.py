"""Members of a zip file, read whole but never beyond a limit; also those that are packed with Zstandard.

Zstandard in zip is method 93 (PKWARE's APPNOTE 6.3.8), which inspect_ai writes and zipfile reads from Python 3.14 on.
"""

import zlib
from pathlib import Path
from struct import Struct
from typing import IO
from zipfile import BadZipFile, ZipFile, ZipInfo

import pyarrow as pa

from dpe_ray.errors import PoolError

ZSTANDARD = 93
LARGEST_MEMBER = 256 * 2**20
"""Bytes, unpacked."""
_LOCAL_HEADER = Struct("<4s22xHH")
"""Of a member: signature, and at its end the lengths of name and extra field (APPNOTE 4.3.7)."""


def read_member(path: Path, file: IO[bytes], archive: ZipFile, member: ZipInfo) -> bytes:
    """Unpack one member. Raises PoolError when it is damaged or unpacks to more than it states or than the limit."""
    where = f"{path}: {member.filename}"
    if member.file_size > LARGEST_MEMBER:
        size = f"{member.file_size / 2**20:,.0f} MiB, at most {LARGEST_MEMBER // 2**20} are read"
        raise PoolError(f"{where} unpacks to {size}")
    try:
        content = _unpacked(file, member) if member.compress_type == ZSTANDARD else archive.read(member)
    except (BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise PoolError(f"{where} cannot be unpacked ({error}); copy the log anew") from error
    if len(content) != member.file_size or zlib.crc32(content) != member.CRC:
        raise PoolError(f"{where} is damaged; copy the log anew")
    return content


def _unpacked(file: IO[bytes], member: ZipInfo) -> bytes:
    """Raises OSError for broken frames, BadZipFile where the member is not where the directory says."""
    file.seek(member.header_offset)
    signature, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    if signature != b"PK\x03\x04":
        raise BadZipFile("it does not begin where the directory says")
    file.seek(name + extra, 1)
    packed = file.read(member.compress_size)
    with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
        return bytes(stream.read(member.file_size + 1))
