"""The folder of an evaluation: photos as they are done, then figures, page, plot and sheets."""

import hashlib
import json
import os
import statistics
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from allaprima.errors import InputError
from allaprima.evaluate import EarlierRuns, Figures, Pictures, Plan, best_so_far
from allaprima.evaluation_report import summarize, worth, write_page
from allaprima.images import read_picture, write_picture
from allaprima.partial import partial_of
from allaprima.plots import draw_curves, to_pixels, write_contact_sheet

NOT_RUN = "not run"


class EvaluationFolder:
    """``photos/`` (figures and pictures of each), ``evaluation.json``, ``evaluation.md``, …

    Raises:
        InputError: it holds one of them, and is neither to be resumed nor overwritten; a folder
            is where a file is to be, or the reverse; a photo to be kept cannot be read.
    """

    def __init__(self, path: Path, sizes: Iterable[int], *, resume: bool, overwrite: bool):
        self.path, self.resume = path, resume and not overwrite
        self.photos = path / "photos"
        names = ("evaluation.json", "evaluation.md", "curves.png")
        folders, files = (path, self.photos), [*(path / n for n in names), *self._sheets(sizes)]
        for place in (*folders, *files):
            is_folder, wanted = place.is_dir(), place in folders
            if place.exists() and is_folder != wanted:
                raise InputError(
                    f"{place} is {'a folder' if is_folder else 'a file'}, and must be "
                    f"{'a folder' if wanted else 'a file'}: move it, or choose another "
                    "hydra.run.dir=FOLDER"
                )
            if place.exists() and place != path and not (resume or overwrite):
                raise InputError(
                    f"{place} exists already and is kept: go on with resume=true, say "
                    "overwrite=true, or choose another hydra.run.dir=FOLDER"
                )
        if self.resume:
            for file in self.photos.glob("*.json"):
                _read(file, {}, (), "")

    def find(self, name: str, settings: Figures) -> Figures | None:
        """An earlier run's figures, if it is to be resumed and has come so far.

        Raises:
            InputError: they were made under other settings.
        """
        file = self.photos / f"{name}.json"
        if not self.resume or not _is_done(file):
            return None
        fix = "resume with the same, or choose another hydra.run.dir, or overwrite=true"
        return _read(file, settings, settings.keys(), fix)

    def keep(self, name: str, figures: Figures, pictures: Pictures) -> None:
        """Write a photo's figures, and its pictures side by side; blanks are white."""
        shape = next(picture.shape for picture in pictures if picture is not None)
        blank = np.full((shape[1], shape[2], 3), 255, np.uint8)
        cells = [blank if picture is None else to_pixels(picture) for picture in pictures]
        write_picture(self.photos / f"{name}.png", np.concatenate(cells, axis=1), overwrite=True)
        figures["file"] = name
        figures["num_pictures"] = len(pictures)
        _write(self.photos / f"{name}.json", json.dumps(figures))

    def write(self, by_size: Mapping[int, list[Figures]], plan: Plan, about: Figures) -> list[Path]:
        """What all photos say together; the page is the first of the files."""
        summary = {str(size): summarize(photos) for size, photos in by_size.items()}
        evaluation = {**about, "summary": summary}
        page, data = self.path / "evaluation.md", self.path / "evaluation.json"
        written = [page, data]
        whole = {**evaluation, "photos": {str(size): p for size, p in by_size.items()}}
        stylization = "optimizer" in next(iter(by_size.values()))[0]
        losses = [p["pass"]["loss"] for ps in by_size.values() for p in ps if stylization]
        if losses and min(losses) > 0:
            self._draw_curves(by_size, summary, plan, str(about["checkpoint"]))
            written.append(self.path / "curves.png")
        for sheet, photos in zip(self._sheets(by_size), by_size.values(), strict=True):
            self._write_sheet(sheet, photos, plan)
            written.append(sheet)
        _write(page, write_page(evaluation))
        _write(data, json.dumps(whole, indent=1))
        return written

    def _sheets(self, sizes: Iterable[int]) -> list[Path]:
        _, *others = dict.fromkeys(sizes)
        names = ["contact_sheet.jpg", *(f"contact_sheet_{size}.jpg" for size in others)]
        return [self.path / name for name in names]

    def _draw_curves(
        self, by_size: Mapping[int, list[Figures]], summary: Figures, plan: Plan, checkpoint: str
    ) -> None:
        curves, labels, medians = {}, {}, {}
        for size, photos in by_size.items():
            starts = summary[str(size)]["starts"]
            curves[str(size)] = {
                start: [
                    [value / p["pass"]["loss"] for value in best_so_far(run["losses"])]
                    for p in photos
                    if (run := p["optimizer"][start])
                ]
                for start in starts
            }
            labels[str(size)] = {
                start: f"from {start}: {worth(s['equivalent_evaluations'], plan.evaluations)}"
                for start, s in starts.items()
            }
            loss = statistics.median(p["pass"]["loss"] for p in photos)
            labels[str(size)]["pass"] = f"one pass (median loss {loss:.3g})"
            medians[str(size)] = {
                start: s["equivalent_evaluations"]["median"] for start, s in starts.items()
            }
        num_photos = max(map(len, by_size.values()))
        title = f"{checkpoint}: evaluations that one pass is worth (photos: {num_photos})"
        draw_curves(self.path / "curves.png", curves, labels, medians, title)

    def _write_sheet(self, sheet: Path, photos: list[Figures], plan: Plan) -> None:
        rows, captions = [], []
        for figures in photos:
            file, num = self.photos / f"{figures['file']}.png", figures["num_pictures"]
            rows.append(np.split(read_picture(file, as_stored=True).rgb, num, axis=1))
            captions.append(_captions(figures, plan))
        if "metrics" in photos[0]:
            panels = photos[0]["num_pictures"]
            header = ["given", "one pass", "photo"] if panels == 3 else [""] * panels
        else:
            counts = [f"from {plan.starts[0]}: {count}" for count in plan.picture_counts]
            header = ["photo", "one pass", *counts]
        some = [i for i in range(len(header)) if any(c[i] != NOT_RUN for c in captions)]

        def reached(line: list) -> list:  # without columns that no run has come to
            return [line[i] for i in some]

        write_contact_sheet(
            sheet, reached(header), list(map(reached, rows)), list(map(reached, captions))
        )


def find_runs(folder: Path, name: str, settings: Figures) -> EarlierRuns | None:
    """The optimiser's runs on a photo in another evaluation's folder, whatever its checkpoint.

    Raises:
        InputError: they were made under other settings, or a file cannot be read.
    """
    file = folder / "photos" / f"{name}.json"
    if not _is_done(file):
        return None
    deciding = settings.keys() - {"checkpoint", "until_beaten"}
    figures = _read(file, settings, deciding, "take the same, or reuse=null")
    panels = np.split(read_picture(file.with_suffix(".png")).rgb, figures["num_pictures"], axis=1)
    pictures: Pictures = [torch.from_numpy(panel).permute(2, 0, 1) for panel in panels[2:]]
    return EarlierRuns(figures["optimizer"], figures["settings"]["until_beaten"], pictures)


def _is_done(file: Path) -> bool:
    return file.exists() and file.with_suffix(".png").exists()


def _read(file: Path, settings: Figures, deciding: Collection[str], fix: str) -> Figures:
    """A photo's figures, made under these settings, as far as they decide."""
    try:
        figures = json.loads(file.read_text(encoding="utf-8"))
        before = dict(figures["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} cannot be read ({error}); delete it") from error
    differing = [key for key in settings if key in deciding and before.get(key) != settings[key]]
    if differing:
        raise InputError(f"{file} was made under another {', '.join(differing)}: {fix}")
    return figures


def _captions(figures: Figures, plan: Plan) -> list[str]:
    if "metrics" in figures:
        metrics = [f"{name} {value:.3g}" for name, value in figures["metrics"].items()]
        half = len(metrics) // 2
        texts = [", ".join(metrics[half:]), ", ".join(metrics[:half]), figures["name"]]
        return (texts + [""] * figures["num_pictures"])[: figures["num_pictures"]]
    at = figures["optimizer"][plan.starts[0]]["at"]
    terms = [figures["pass"], *(at.get(str(count)) for count in plan.picture_counts)]
    return [figures["name"], *(f"loss {t['loss']:.4g}" if t else NOT_RUN for t in terms)]


def fingerprint(content: bytes) -> str:
    """Tells two contents apart."""
    return hashlib.sha256(content).hexdigest()[:16]


def _write(path: Path, text: str) -> None:
    partial = partial_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        with suppress(OSError):
            partial.unlink()
