"""A clip's sound, carried over as it is."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from av.error import FFmpegError

from allaprima.errors import InputError
from allaprima.video_reader import open_video, start_of_clock


class Sound:
    """A clip's sound streams, copied packet by packet as they are.

    The file is opened a second time, so that the sound may follow the painted frames wherever it
    lies in the file.

    Raises:
        InputError: the container cannot hold a stream of that codec.
    """

    def __init__(self, source: Path, target: Any):
        self.container = open_video(source)
        self.offset = start_of_clock(self.container)
        self.copies: dict[int, Any] = {}
        for stream in self.container.streams.audio:
            if stream.codec_context is None or stream.codec_context.sample_rate == 0:
                continue  # a header without any sound behind it
            name = stream.codec_context.codec.canonical_name
            if not {name, stream.codec_context.name} & target.supported_codecs:
                self.close()
                raise InputError(
                    f"{source} has sound in {name}, which {Path(target.name).suffix} cannot "
                    "hold; .mkv can"
                )
            copy = target.add_stream_from_template(stream)
            copy.metadata.update(language_of(stream))
            self.copies[stream.index] = copy
        self._packets = self._read()
        self._next: Any = None

    def packets(self, until: Fraction | None) -> Iterator[Any]:
        """Those not yet given that begin before a time; None gives all the rest."""
        while True:
            if self._next is None:
                self._next = next(self._packets, None)
            if self._next is None:
                return
            packet, start = self._next
            if until is not None and start >= until:
                return
            self._next = None
            yield packet

    def close(self) -> None:
        self.container.close()

    def _read(self) -> Iterator[tuple[Any, Fraction]]:
        if not self.copies:
            return
        streams = [self.container.streams[index] for index in self.copies]
        last: dict[int, int] = {}
        try:
            for packet in self.container.demux(streams):
                if packet.dts is None:
                    continue  # the end of a stream
                if packet.dts <= last.get(packet.stream.index, packet.dts - 1):
                    continue  # a damaged time, which no container takes
                last[packet.stream.index] = packet.dts
                shift = round(self.offset / packet.time_base)
                packet.dts -= shift
                packet.pts = packet.dts if packet.pts is None else packet.pts - shift
                start = packet.dts * packet.time_base
                packet.stream = self.copies[packet.stream.index]
                yield packet, start
        except (FFmpegError, EOFError):
            return  # the reader of the pictures says what is missing


def language_of(stream: Any) -> dict[str, str]:
    """A stream's language as metadata for another."""
    return {"language": stream.language} if stream.language else {}
