"""Downloads from a real HTTP server on this machine: tiny archives, served badly if asked."""

import io
import re
import sys
import threading
import zipfile
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.progress import Progress

from allaprima import resumable_download
from allaprima.entrypoints.download_coco import PHOTOS, extract, main
from allaprima.errors import InputError

TRAIN, VAL = "/zips/train2017.zip", "/zips/val2017.zip"
LISTS = "/annotations/annotations_trainval2017.zip"
PICTURE = bytes(range(256)) * 40  # 10 kB, as good as a JPEG here


def make_zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@dataclass
class Server:
    """What it serves, how badly, and what was asked of it."""

    files: dict[str, bytes]
    url: str = ""
    ranges: bool = True
    etag: str = '"1"'
    drop_after: list[int] = field(default_factory=list)  # bytes of the body, one for each GET
    tell_size: int | None = None  # instead of the true one, to HEAD
    status: int = 200
    asked: list[tuple[str, str, int]] = field(default_factory=list)  # method, path, first byte

    def gets(self, path: str) -> list[int]:
        """First bytes of all GET requests for a path."""
        return [start for method, asked, start in self.asked if (method, asked) == ("GET", path)]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(resumable_download, "BACKOFF_S", 0.001)
    train = {f"train2017/{n:012}.jpg": PICTURE + bytes([n]) for n in range(3)}
    state = Server(
        {
            TRAIN: make_zip({"train2017/": b"", **train}),
            VAL: make_zip({f"val2017/{n:012}.jpg": PICTURE + bytes([n]) for n in range(2)}),
            LISTS: make_zip(
                {
                    f"annotations/{kind}_{split}.json": b'{"images": []}'
                    for kind in ("instances", "captions")
                    for split in PHOTOS
                }
            ),
        }
    )

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(body=False)

        def do_GET(self):
            self.answer(body=True)

        def answer(self, body: bool):
            content = state.files.get(self.path)
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(asked[1]) if asked else 0
            state.asked.append((self.command, self.path, start))
            if content is None or state.status != 200:
                self.send_error(404 if content is None else state.status)
                return
            if not state.ranges or self.headers.get("If-Range", state.etag) != state.etag:
                start = 0
            self.send_response(206 if start else 200)
            if start:
                last = len(content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
            if state.etag:
                self.send_header("ETag", state.etag)
            size = len(content) - start if body else state.tell_size or len(content)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            if body:
                end = start + state.drop_after.pop(0) if state.drop_after else None
                self.wfile.write(content[start:end])

        def log_message(self, format: str, *args: object):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        state.url = f"http://127.0.0.1:{http_server.server_port}"
        thread = threading.Thread(target=http_server.serve_forever, args=(0.01,))
        thread.start()
        yield state
        http_server.shutdown()
        thread.join()


@pytest.fixture
def download(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    def run(*options: str, root: Path = tmp_path / "coco") -> tuple[int | str | None, str]:
        """Exit status or message, and what was printed."""
        command = ["download_coco.py", str(root), "--base-url", server.url, *options]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, capsys.readouterr().out

    return run


def tree(root: Path) -> dict[str, bytes]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def only_val(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if "val2017" in name}


WHOLE = {
    "annotations/instances_train2017.json": b'{"images": []}',
    "annotations/instances_val2017.json": b'{"images": []}',
    **{f"train2017/{n:012}.jpg": PICTURE + bytes([n]) for n in range(3)},
    **{f"val2017/{n:012}.jpg": PICTURE + bytes([n]) for n in range(2)},
}


def test_full_run_leaves_the_coco_layout_and_a_second_asks_for_nothing(server, download, tmp_path):
    assert download()[0] == 0
    assert tree(tmp_path / "coco") == WHOLE
    server.asked.clear()
    status, text = download()
    assert status == 0
    assert text.count("complete") == 3
    assert server.asked == []
    assert tree(tmp_path / "coco") == WHOLE


def test_one_split_then_the_other(server, download, tmp_path):
    assert download("--split", "val2017")[0] == 0
    assert tree(tmp_path / "coco") == only_val(WHOLE)
    assert TRAIN not in {path for _, path, _ in server.asked}
    assert download()[0] == 0
    assert tree(tmp_path / "coco") == WHOLE
    assert len(server.gets(VAL)) == 1


def test_dry_run_tells_sizes_and_writes_nothing(server, download, tmp_path):
    status, text = download("--dry-run")
    assert status == 0
    assert f"{server.url}{TRAIN}" in text
    assert str(tmp_path / "coco" / "train2017") in text
    assert "kB" in text
    assert not (tmp_path / "coco").exists()
    assert {method for method, _, _ in server.asked} == {"HEAD"}


def test_dropped_connection_goes_on_where_it_broke(server, download, tmp_path):
    server.drop_after = [10**6, 15_000, 3_000]  # the lists come first, being the smallest
    status, text = download("--split", "val2017", "--keep-archives")
    assert status == 0
    assert text.count("trying again") == 2
    assert server.gets(VAL) == [0, 15_000, 18_000]
    assert (tmp_path / "coco" / "val2017.zip").read_bytes() == server.files[VAL]


def test_a_later_run_goes_on_with_the_part_of_an_earlier_one(server, download, tmp_path):
    server.drop_after = [10**6, 7_000] + [0] * 20  # the lists pass; then 7 kB, then nothing
    status, _ = download("--split", "val2017")
    assert "in a row" in str(status)
    part = tmp_path / "coco" / "val2017.zip.part"
    assert part.read_bytes() == server.files[VAL][:7_000]
    server.drop_after, server.asked = [], []
    assert download("--split", "val2017")[0] == 0
    assert server.gets(VAL) == [7_000]
    assert not part.exists()
    assert tree(tmp_path / "coco") == only_val(WHOLE)


@pytest.mark.parametrize("etag", ['"2"', ""])
def test_a_part_of_another_version_is_not_gone_on_with(server, download, tmp_path, etag):
    server.drop_after = [10**6, 7_000] + [0] * 20
    download("--split", "val2017")
    server.drop_after, server.asked, server.etag = [], [], etag
    assert download("--split", "val2017")[0] == 0
    assert server.gets(VAL) == [0]


def test_server_without_ranges_sends_all_anew(server, download, tmp_path):
    server.ranges = False
    server.drop_after = [10**6, 12_000]
    assert download("--split", "val2017")[0] == 0
    assert server.gets(VAL) == [0, 12_000]  # asked for the rest, was given the whole
    assert tree(tmp_path / "coco") == only_val(WHOLE)


def test_damaged_archive_is_told_and_fetched_anew(server, download, tmp_path):
    good = server.files[VAL]
    at = good.index(PICTURE) + 5_000
    server.files[VAL] = good[:at] + b"?!" + good[at + 2 :]
    status, _ = download("--split", "val2017")
    assert "damaged" in str(status)
    assert not (tmp_path / "coco" / "val2017").exists()
    assert not (tmp_path / "coco" / "val2017.zip").exists()
    server.files[VAL] = good
    assert download("--split", "val2017")[0] == 0
    assert tree(tmp_path / "coco") == only_val(WHOLE)


def test_members_are_written_nowhere_else(server, download, tmp_path):
    evil = dict.fromkeys(("../evil.jpg", "val2017/../../evil.jpg", "/evil.jpg", "evil.jpg"), b"x")
    server.files[VAL] = make_zip({**evil, "val2017/000000000000.jpg": PICTURE + b"\0"})
    assert download("--split", "val2017")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["coco"]
    assert set(tree(tmp_path / "coco")) == {
        "annotations/instances_val2017.json",
        "val2017/000000000000.jpg",
    }


def test_extraction_goes_on_and_counts(server, tmp_path):
    path = tmp_path / "val2017.zip"
    path.write_bytes(server.files[VAL])
    partial = tmp_path / "val2017.partial"
    partial.mkdir()
    done, cut = partial / "000000000000.jpg", partial / "000000000001.jpg"
    done.write_bytes(b"." * (len(PICTURE) + 1))  # the right size: kept
    cut.write_bytes(PICTURE)  # one byte short: written again
    official = PHOTOS["val2017"]
    with pytest.raises(InputError, match=r"holds 2 files .* should hold 5000"):
        extract(official, path, tmp_path, Progress(disable=True))
    assert done.read_bytes()[:1] == b"."
    assert cut.read_bytes() == PICTURE + b"\1"
    assert not (tmp_path / "val2017").exists()
    extract(replace(official, num_files=2), path, tmp_path, Progress(disable=True))
    assert len(tree(tmp_path / "val2017")) == 2
    assert not partial.exists()


def test_incomplete_folder_is_completed_in_place(server, tmp_path):
    path, folder = tmp_path / "val2017.zip", tmp_path / "val2017"
    path.write_bytes(server.files[VAL])
    folder.mkdir()
    (folder / "000000000000.jpg").write_bytes(PICTURE)
    (folder / "notes.txt").write_text("mine")
    extract(replace(PHOTOS["val2017"], num_files=2), path, tmp_path, Progress(disable=True))
    assert tree(folder) == {
        "000000000000.jpg": PICTURE + b"\0",
        "000000000001.jpg": PICTURE + b"\1",
        "notes.txt": b"mine",
    }


def test_refusals_name_the_rule_and_the_fix(server, download, tmp_path):
    assert "choose from train2017, val2017" in str(download("--split", "test2017")[0])
    assert "must begin with http" in str(download("--base-url", "file:///etc")[0])
    assert "404" in str(download("--base-url", f"{server.url}/nowhere")[0])
    server.tell_size = 10**18
    assert "4.0 EB are needed" in str(download("--split", "val2017")[0])
    server.tell_size, server.status = None, 503
    assert "503" in str(download()[0])
    assert not (tmp_path / "coco").exists()


def test_no_server(server, download):
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        port = closed.server_port
    status, _ = download("--base-url", f"http://127.0.0.1:{port}")
    assert "no connection" in str(status)


def test_root_that_cannot_be_made(download, tmp_path):
    (tmp_path / "file").write_text("")
    status, _ = download(root=tmp_path / "file" / "coco")
    assert "choose a ROOT that you may write to" in str(status)
