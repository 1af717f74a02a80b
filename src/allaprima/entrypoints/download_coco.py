"""download_coco.py: fetch COCO's photographs and image lists, going on where it was cut off."""

import errno
import os
import re
import shutil
import sys
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer
from rich import progress
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape

from allaprima.errors import InputError
from allaprima.resumable_download import RemoteFile, ask, download, part_of, size_of


@dataclass(frozen=True)
class Archive:
    """A zip file on the server, and what of it is wanted."""

    path: str  # below the base URL
    folder: str  # below ROOT; the wanted members lie in it, flat
    members: str  # regular expression for a wanted member's whole name: no other is ever written
    num_files: int | None  # wanted members; None: any number above 0
    growth: float = 1.0  # bytes to extract per byte of the archive, estimated


OFFICIAL_URL = "http://images.cocodataset.org"  # its HTTPS certificate is for another name
PHOTOS = {
    "train2017": Archive("zips/train2017.zip", "train2017", r"train2017/\w+\.jpg", 118_287),
    "val2017": Archive("zips/val2017.zip", "val2017", r"val2017/\w+\.jpg", 5_000),
}
ANNOTATIONS = "annotations/annotations_trainval2017.zip"
TERMS = "https://cocodataset.org/#termsofuse"


def main() -> None:
    """Console entry point."""
    typer.run(download_coco)


def download_coco(
    root: Annotated[Path, typer.Argument(help="Folder for the data set; made if missing.")],
    split: Annotated[list[str] | None, typer.Option(help=" or ".join(PHOTOS))] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell sizes; fetch nothing.")] = False,
    keep_archives: Annotated[
        bool, typer.Option("--keep-archives", help="Keep the zip files once extracted.")
    ] = False,
    base_url: Annotated[str, typer.Option(help="A mirror of COCO's server.")] = OFFICIAL_URL,
) -> None:
    """Fetch COCO 2017: ROOT/train2017, ROOT/val2017, ROOT/annotations/instances_*.json.

    Without --split, both. A run that was cut off goes on when repeated.
    """
    try:
        fetch(root, choose(split or list(PHOTOS), base_url), base_url, dry_run, keep_archives)
    except InputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = "free some space" if full else "choose a ROOT that you may write to"
        sys.exit(f"error: ROOT={root}: {error.strerror or error}; {fix}, then run it again")
    except KeyboardInterrupt:
        print("\nStopped. Run it again to go on from here.", file=sys.stderr)
        sys.exit(130)


def choose(splits: list[str], base_url: str) -> list[Archive]:
    """The archives for these splits, their image lists included.

    Raises:
        InputError: a split or the URL is none that can be fetched.
    """
    for split in splits:
        if split not in PHOTOS:
            raise InputError(f"--split={split}: no such split; choose from {', '.join(PHOTOS)}")
    if not re.match(r"https?://[^/]", base_url):
        raise InputError(f"--base-url={base_url}: must begin with http:// or https://, then a host")
    splits = list(dict.fromkeys(splits))
    photos = [PHOTOS[split] for split in splits]
    if base_url.rstrip("/") != OFFICIAL_URL:  # a mirror may hold a part
        photos = [replace(archive, num_files=None) for archive in photos]
    wanted = rf"annotations/instances_({'|'.join(splits)})\.json"
    return [*photos, Archive(ANNOTATIONS, "annotations", wanted, len(splits), growth=2.0)]


def fetch(
    root: Path, archives: list[Archive], base_url: str, dry_run: bool, keep_archives: bool
) -> None:
    """Download, extract and check what ROOT lacks; only tell what, if ``dry_run``.

    Raises:
        InputError: the network, the server or the space does not allow it.
        OSError: ROOT cannot be written to.
    """
    console = Console(soft_wrap=True, highlight=False)
    missing: dict[Archive, RemoteFile] = {}
    for archive in archives:
        if is_complete(archive, root):
            console.print(escape(f"{root / archive.folder}: complete"))
            continue
        remote = missing[archive] = ask(f"{base_url.rstrip('/')}/{archive.path}")
        console.print(
            escape(f"{root / archive.folder}: {decimal(remote.num_bytes)} from {remote.url}")
        )
    if not missing:
        return
    num_bytes = space_needed(missing, root, keep_archives)
    console.print(f"Space needed: {decimal(num_bytes)}, free: {decimal(free_space(root))}.")
    console.print(f"Terms of use: {TERMS}")
    if dry_run:
        return
    check_space(root, num_bytes)
    root.mkdir(parents=True, exist_ok=True)
    columns = (progress.TextColumn("{task.description}"), progress.BarColumn())
    rates = (progress.TransferSpeedColumn(), progress.TimeRemainingColumn())
    with progress.Progress(*columns, progress.DownloadColumn(), *rates, console=console) as bars:
        for archive, remote in sorted(missing.items(), key=lambda item: item[1].num_bytes):
            path = zip_path(archive, root)
            bar = bars.add_task(path.name, total=remote.num_bytes, completed=size_of(part_of(path)))
            download(
                remote,
                path,
                on_bytes=lambda done, bar=bar: bars.update(bar, completed=done),
                on_trouble=lambda message: bars.console.print(escape(message)),
            )
            extract(archive, path, root, bars)
            if not keep_archives:
                path.unlink()


def zip_path(archive: Archive, root: Path) -> Path:
    return root / PurePosixPath(archive.path).name


def folders(archive: Archive, root: Path) -> tuple[Path, Path]:
    """Where the files lie at the end, and where they gather until the last is there."""
    return root / archive.folder, root / f"{archive.folder}.partial"


def sizes(archive: Archive, *places: Path) -> dict[str, int]:
    """Bytes of each wanted file in these folders, by name."""
    return {
        file.name: file.stat().st_size
        for folder in places
        if folder.is_dir()
        for file in os.scandir(folder)
        if re.fullmatch(archive.members, f"{archive.folder}/{file.name}")
    }


def is_complete(archive: Archive, root: Path) -> bool:
    return len(sizes(archive, root / archive.folder)) >= (archive.num_files or 1)


def space_needed(missing: dict[Archive, RemoteFile], root: Path, keep_archives: bool) -> int:
    """Bytes that the run will add at its fullest moment, about; what lies there is deducted."""
    to_download, to_extract = [0], 0.0
    for archive, remote in missing.items():
        path = zip_path(archive, root)
        to_download.append(remote.num_bytes - max(size_of(path), size_of(part_of(path))))
        present = sum(sizes(archive, *folders(archive, root)).values())
        to_extract += max(0, remote.num_bytes * archive.growth - present)
    return (sum if keep_archives else max)(to_download) + round(to_extract)


def free_space(root: Path) -> int:
    return shutil.disk_usage(next(p for p in (root, *root.absolute().parents) if p.exists())).free


def check_space(root: Path, num_bytes: int) -> None:
    if num_bytes > (free := free_space(root)):
        raise InputError(
            f"ROOT={root}: {decimal(num_bytes)} are needed and {decimal(free)} are free; free some "
            "space, choose another ROOT or fetch --split val2017 alone"
        )


def extract(archive: Archive, path: Path, root: Path, bars: progress.Progress) -> None:
    """Write the wanted members, checked by their CRC, that are not there in their full size yet.

    Raises:
        InputError: the archive is damaged (it is deleted), or is not what was expected.
    """
    folder, partial = folders(archive, root)
    present = sizes(archive, folder, partial)
    partial.mkdir(exist_ok=True)
    try:
        with zipfile.ZipFile(path) as opened:
            infos = [i for i in opened.infolist() if re.fullmatch(archive.members, i.filename)]
            todo = [i for i in infos if present.get(Path(i.filename).name) != i.file_size]
            check_space(root, num_bytes := sum(info.file_size for info in todo))
            bar = bars.add_task(f"{archive.folder}/", total=num_bytes)
            for info in todo:
                write_member(opened, info, partial)
                bars.update(bar, advance=info.file_size)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        path.unlink()
        raise InputError(
            f"{path}: the archive was damaged ({error}) and is deleted; run it again to refetch it"
        ) from error
    num_found, num_expected = len(sizes(archive, folder, partial)), archive.num_files or 1
    if num_found < num_expected:
        raise InputError(
            f"{path}: holds {num_found} files like {archive.members} and should hold "
            f"{num_expected}; check --base-url, delete the archive and run it again"
        )
    publish(partial, folder)


def write_member(opened: zipfile.ZipFile, info: zipfile.ZipInfo, folder: Path) -> None:
    incoming = folder / ".incoming"
    try:
        with opened.open(info) as source, incoming.open("wb") as file:
            shutil.copyfileobj(source, file)
        os.replace(incoming, folder / Path(info.filename).name)
    finally:
        incoming.unlink(missing_ok=True)


def publish(partial: Path, folder: Path) -> None:
    """Give the gathered files their place: all at once, unless there are some already."""
    if not folder.exists():
        os.replace(partial, folder)
        return
    for file in partial.iterdir():
        os.replace(file, folder / file.name)
    partial.rmdir()
