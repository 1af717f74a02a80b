"""Exported generators: they compute what the generator computes, or are not written."""

import functools
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from allaprima import export
from allaprima.entrypoints.export import app
from allaprima.errors import InputError
from allaprima.export import export_generator
from allaprima.generators.johnson import JohnsonGenerator
from allaprima.generators.johnson_superres import JohnsonSuperresolutionGenerator
from allaprima.generators.ulyanov import UlyanovGenerator
from allaprima.onnx_painter import OnnxPainter
from allaprima.portable import paint_portably
from allaprima.weights import save_generator

needs_onnx = pytest.mark.skipif(
    bool([name for name in export.NEEDED if not export.find_spec(name)]),
    reason="the extra allaprima[onnx] is not installed",
)
METADATA = {"style": {"title": "Wave", "licence": "public domain"}, "recipe": "a\nb", "text": "1"}
SMALL = (4, 6, 8)
SIZES = ((24, 40), (37, 43))
GENERATORS = {
    "johnson": lambda: JohnsonGenerator(SMALL, 1),
    "papers": lambda: JohnsonGenerator(
        SMALL, 1, "batch", "transposed", "start", "luminance", "linear"
    ),
    "dilated": lambda: JohnsonGenerator(SMALL, 2, margin_px=4, dilations=(2, 5)),
    "superres": lambda: JohnsonSuperresolutionGenerator(2, 4, 1),
    "ulyanov": lambda: UlyanovGenerator(num_scales=2, num_channels=2),
    "no noise": lambda: UlyanovGenerator(num_scales=2, num_channels=2, num_noise_channels=0),
}


def make(name: str) -> nn.Module:
    """With statistics and output as after some training, so that all does something."""
    generator = GENERATORS[name]().eval()
    for module in generator.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.05, 0.2)
    return generator.requires_grad_(False)


def expected(generator: nn.Module, rgb: np.ndarray) -> np.ndarray:
    photo = torch.from_numpy(rgb).permute(2, 0, 1)[None]
    return paint_portably(generator, photo)[0].permute(1, 2, 0).numpy()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A generator, its ONNX file and the report; made once, for tracing takes seconds."""

    @functools.cache
    def export_once(name: str):
        torch.manual_seed(0)
        generator = make(name)
        file = tmp_path_factory.mktemp("exported") / "new" / "wave.onnx"
        return generator, file, export_generator(generator, METADATA, file, sizes=SIZES)

    return export_once


@needs_onnx
@pytest.mark.parametrize("name", GENERATORS)
def test_onnx_is_the_generator_at_every_size(exported, name):
    generator, file, report = exported(name)
    assert report.maximum < 1e-5
    assert report.size_bytes == file.stat().st_size
    painter = OnnxPainter(file, threads=1)
    least = generator.min_size_px
    rng = np.random.default_rng(0)
    for height, width in ((least, least), (least + 1, 65), (least + 2, 64), (50, least + 3)):
        rgb = rng.random((height, width, 3), np.float32)
        painted, wanted = painter(rgb), expected(generator, rgb)
        assert painted.std() > 0.01
        np.testing.assert_allclose(painted, wanted, rtol=0, atol=1e-5)
    with pytest.raises(InputError, match=f"each side must be ≥ {least} px"):
        painter(rgb[: least - 1])


@needs_onnx
def test_float16_is_half_the_size_and_near(tmp_path):
    generator = JohnsonGenerator((4, 16, 32), 1).eval().requires_grad_(False)
    report = export_generator(generator, METADATA, tmp_path / "16.onnx", half=True, sizes=SIZES)
    num_weights = sum(p.numel() for p in generator.parameters())
    assert report.size_bytes < 2.1 * num_weights + 20_000  # the graph itself
    assert 1e-6 < report.maximum < export.LIMIT
    painter = OnnxPainter(tmp_path / "16.onnx")
    assert painter.metadata["precision"] == "float16"
    rgb = np.random.default_rng(0).random((31, 33, 3), np.float32)
    assert np.abs(painter(rgb) - expected(generator, rgb)).max() < export.LIMIT


@needs_onnx
def test_bytes_in_bytes_out(tmp_path):
    import onnx

    file = tmp_path / "wave.onnx"
    report = export_generator(make("superres"), METADATA, file, uint8=True, sizes=SIZES)
    assert 0.4 / 255 < report.maximum < 0.501 / 255  # rounding alone
    [photo], [painting] = (graph := onnx.load(file).graph).input, graph.output
    assert shape_of(photo) == ["height", "width", 3]
    assert shape_of(painting) == ["painting_height", "painting_width", 3]
    for value in (photo, painting):
        assert value.type.tensor_type.elem_type == onnx.TensorProto.UINT8


def shape_of(value) -> list[str | int]:
    return [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]


@needs_onnx
def test_what_the_file_says_of_itself(exported):
    import onnx

    generator, file, report = exported("johnson")
    metadata = OnnxPainter(file).metadata
    assert METADATA.items() <= metadata.items()
    assert metadata["arguments"] == generator.arguments
    assert (metadata["generator"], metadata["min_size_px"]) == ("johnson", 16)
    model = onnx.load(file)
    assert model.opset_import[0].version == export.OPSET
    [photo], [painting] = model.graph.input, model.graph.output
    assert (photo.name, painting.name) == ("photo", "painting")
    assert shape_of(photo) == shape_of(painting) == [1, 3, "height", "width"]
    content = file.read_bytes()
    assert b"site-packages" not in content  # where the exporter's sources were
    assert b".py" not in content
    read = json.loads((file.parent / "wave.onnx.json").read_text(encoding="utf-8"))
    assert read["size_bytes"] == report.size_bytes
    assert [(c["width"], c["height"]) for c in read["comparisons"]] == list(SIZES)
    assert all(c["latency_s"] > 0 for c in read["comparisons"])


@pytest.mark.parametrize(("name", "uint8"), [("johnson", False), ("superres", True)])
def test_torch_export_is_the_generator_at_every_size(tmp_path, name, uint8):
    generator = make(name)
    file = tmp_path / "wave.pt2"
    report = export_generator(generator, METADATA, file, uint8=uint8, sizes=SIZES)
    assert report.maximum < (0.501 / 255 if uint8 else 1e-6)
    extra = {"metadata.json": ""}
    network = torch.export.load(file, extra_files=extra).module()
    assert METADATA.items() <= json.loads(extra["metadata.json"]).items()
    for height, width in ((16, 16), (17, 45), (30, 31)):
        rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        wanted = expected(generator, rgb.astype(np.float32) / 255)
        if uint8:
            painted = network(torch.from_numpy(rgb)).numpy() / 255
        else:
            painted = network(torch.from_numpy(rgb).permute(2, 0, 1)[None] / 255)[0]
            painted = painted.permute(1, 2, 0).numpy()
        np.testing.assert_allclose(painted, wanted, rtol=0, atol=report.maximum + 1e-5)
    with zipfile.ZipFile(file) as archive:
        assert {name.partition("/")[0] for name in archive.namelist()} == {"wave"}
        assert not any(b"site-packages" in archive.read(name) for name in archive.namelist())


@needs_onnx
def test_what_differs_is_not_written(tmp_path):
    """Weights beyond float16's largest number become infinite, and paint no numbers."""
    generator = make("superres")
    generator.start[0].weight[0, 0, 0, 0] = 1e6
    old = tmp_path / "wave.onnx"
    old.write_bytes(b"old")
    with pytest.raises(InputError, match=r"not written: at .* px it would differ .* by inf/255"):
        export_generator(generator, METADATA, old, half=True, sizes=SIZES, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["wave.onnx"]
    assert old.read_bytes() == b"old"


def test_a_slight_difference_is_measured(monkeypatch):
    monkeypatch.setattr(export, "LIMIT", 0.01)
    generator = make("johnson")

    def paint(rgb):
        painted = expected(generator, rgb)
        painted[3, 4, 1] += 0.011
        return painted

    comparisons = export.compare(generator, paint, SIZES)
    report = export.Report(Path("x.onnx"), 1, "", comparisons)
    assert report.maximum == pytest.approx(0.011, abs=1e-6)
    assert comparisons[0].mean == pytest.approx(0.011 / (24 * 40 * 3), rel=1e-3)
    with pytest.raises(InputError, match=r"differ from the generator by 2\.8"):
        export._check_parity(report)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("wave.tflite", {}, "end in .onnx or .pt2"),
        ("wave.pt2", {"half": True}, "float16 is for .onnx"),
        ("folder.onnx", {}, "is a folder"),
        ("old.pt2", {}, "exists already"),
        ("told.pt2", {}, r"told\.pt2\.json exists already"),
        ("nested.pt2", {"overwrite": True}, r"nested\.pt2\.json is a folder"),
        ("old.pt2/wave.pt2", {"overwrite": True}, "cannot be written"),
    ],
)
def test_places_that_cannot_be_written(tmp_path, name, options, words):
    for folder in ("folder.onnx", "nested.pt2.json"):
        (tmp_path / folder).mkdir()
    for file in ("old.pt2", "told.pt2.json"):
        (tmp_path / file).write_bytes(b"old")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=words):
        export_generator(make("johnson"), METADATA, tmp_path / name, sizes=SIZES, **options)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "told.pt2.json").read_bytes() == b"old"


def test_onnx_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnx" else name)
    with pytest.raises(InputError, match=r"needs onnx, .* pip install 'allaprima\[onnx\]'"):
        export_generator(make("johnson"), METADATA, tmp_path / "wave.onnx")


# The command


@pytest.fixture
def checkpoint(tmp_path):
    file = tmp_path / "wave.safetensors"
    save_generator(file, make("superres"), METADATA)
    return file


def test_the_command(checkpoint, monkeypatch):
    quickly = functools.partial(export_generator, sizes=SIZES)
    monkeypatch.setattr(export, "export_generator", quickly)
    file = checkpoint.with_name("app.pt2")
    result = CliRunner().invoke(app, [f"checkpoint={checkpoint}", "-o", str(file), "--uint8"])
    assert result.exit_code == 0, result.output
    assert f"Wrote {file} (" in result.output
    assert "19×21" in result.output
    assert "/255" in result.output
    assert json.loads(checkpoint.with_name("app.pt2.json").read_text())["file"] == "app.pt2"
    again = CliRunner().invoke(app, [str(checkpoint), "-o", str(file)])
    assert again.exit_code == 1
    assert f"error: {file} exists already" in again.output


def test_the_command_tells_what_is_wrong(tmp_path):
    result = CliRunner().invoke(app, ["checkpoint=none.safetensors"])
    assert result.exit_code == 1
    assert result.output.startswith("error: none.safetensors is neither a file nor")


# The page of documentation


@needs_onnx
def test_the_pages_python_script_runs(exported, tmp_path, monkeypatch):
    from PIL import Image

    page = Path(__file__).parents[1] / "docs" / "export.md"
    script = page.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    assert len(script.splitlines()) <= 10
    imported = {line.split()[1] for line in script.splitlines() if "import " in line}
    assert imported == {"numpy", "onnxruntime", "PIL"}
    generator, file, _ = exported("johnson")
    shutil.copy(file, tmp_path / "starry_night.onnx")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (37, 50, 3), np.uint8)).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    exec(compile(script, page.name, "exec"), {})
    photo = np.asarray(Image.open("photo.jpg"), np.float32) / 255
    painted = np.asarray(Image.open("painted.png"), np.float32) / 255
    np.testing.assert_allclose(painted, expected(generator, photo), rtol=0, atol=0.51 / 255)
