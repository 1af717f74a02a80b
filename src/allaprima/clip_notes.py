"""A line of text at the end of a finished clip, where every format may have more than it shows.

MP4 and MOV take a box of free space (ISO/IEC 14496-12), Matroska and WebM a Void element (RFC
8794), GIF a comment before its trailer (GIF89a), WebP a chunk that readers skip.
"""

import os
import struct
from pathlib import Path

MARK = b"note:"
MAX_LENGTH = 100
_VOID = 0xEC  # EBML's element of no meaning
_CHUNK = b"NOTE"


def add_note(path: Path, text: str) -> None:
    """Append a note to a finished clip; players see no difference."""
    note = MARK + text.encode()
    assert len(note) <= MAX_LENGTH, text
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        match path.suffix.lower():
            case ".mp4" | ".mov":
                file.write(struct.pack(">I4s", 8 + len(note), b"free") + note)
            case ".mkv" | ".webm":
                file.write(bytes([_VOID, 0x80 | len(note)]) + note)
            case ".gif":
                file.seek(-1, os.SEEK_END)  # its trailer
                file.write(b"!\xfe" + bytes([len(note)]) + note + b"\0;")
            case ".webp":
                file.write(_CHUNK + struct.pack("<I", len(note)) + note + bytes(len(note) % 2))
                length = file.tell()
                file.seek(4)
                file.write(struct.pack("<I", length - 8))


def read_note(path: Path) -> str:
    """The note at the end of a clip; "" where there is none, or no file."""
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - MAX_LENGTH - 10, 0))
            end = file.read()
    except OSError:
        return ""
    _, found, note = end.rpartition(MARK)
    return note.rstrip(b"\0;").decode(errors="replace") if found else ""
