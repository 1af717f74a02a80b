"""Painting by ONNX Runtime: files that are none of ours are told so."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from allaprima.errors import InputError
from allaprima.onnx_painter import OnnxPainter
from allaprima.weights import as_text

onnx = pytest.importorskip("onnx", reason="the extra allaprima[onnx] is not installed")
pytest.importorskip("onnxruntime", reason="the extra allaprima[onnx] is not installed")

METADATA = {"format_version": "1", "min_size_px": "4", "style": '{"licence": "public domain"}'}
FLOAT, UINT8 = onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8
NCHW, HWC = (1, 3, "height", "width"), ("height", "width", 3)


@pytest.fixture
def write(tmp_path):
    """Writes a network of one layer, which gives back what it takes, and returns its path."""

    def write(shape=NCHW, type_=FLOAT, metadata=METADATA, inputs=1, operator="Identity"):
        photos = [
            onnx.helper.make_tensor_value_info(f"photo{i}", type_, shape) for i in range(inputs)
        ]
        painting = onnx.helper.make_tensor_value_info("painting", type_, shape)
        node = onnx.helper.make_node(operator, [photo.name for photo in photos], ["painting"])
        graph = onnx.helper.make_graph([node], "generator", photos, [painting])
        opsets = [onnx.helper.make_opsetid("", 20)]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
        onnx.helper.set_model_props(model, metadata)
        file = tmp_path / "network.onnx"
        file.write_bytes(model.SerializeToString())
        return file

    return write


@pytest.mark.parametrize(("shape", "type_", "unit"), [(NCHW, FLOAT, 0), (HWC, UINT8, 0.5 / 255)])
def test_pixels_go_in_and_come_out_in_their_places(write, shape, type_, unit):
    painter = OnnxPainter(write(shape, type_), threads=1)
    rgb = np.random.default_rng(0).random((5, 9, 3), np.float32)
    before = rgb.copy()
    painted = painter(rgb)
    assert painted.dtype == np.float32
    assert painted.shape == rgb.shape
    assert np.abs(painted - rgb).max() <= unit + 1e-6
    assert np.array_equal(rgb, before)
    assert painter.metadata["style"] == {"licence": "public domain"}


def test_threads_share_a_painter(write):
    painter = OnnxPainter(write(), threads=1)
    photos = [np.full((8, 8 + i, 3), i / 32, np.float32) for i in range(32)]
    with ThreadPoolExecutor(8) as pool:
        for photo, painted in zip(photos, pool.map(painter, photos), strict=True):
            assert np.array_equal(painted, photo)


def test_a_photo_that_is_too_small(write):
    with pytest.raises(InputError, match="9×3 px; each side must be ≥ 4 px"):
        OnnxPainter(write())(np.zeros((3, 9, 3), np.float32))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"metadata": {}}, "another network: it was not written by scripts/export.py"),
        ({"metadata": {**METADATA, "format_version": "2"}}, "format version '2'.* reads '1'"),
        ({"metadata": {"format_version": "1"}}, "min_size_px is None"),
        ({"metadata": {**METADATA, "min_size_px": "[]"}}, "min_size_px is "),
        ({"shape": (1, 1, "h", "w")}, "another network: it maps photo0"),
        ({"shape": (1, 3, "w")}, "another network"),
        ({"shape": ()}, "another network"),
        ({"type_": UINT8}, "another network"),
        ({"inputs": 2, "operator": "Add"}, "another network: it maps photo0.*photo1"),
        ({"operator": "NoSuchLayer"}, "no ONNX file, damaged, or made for a newer ONNX Runtime"),
    ],
)
def test_another_network_is_refused(write, options, words):
    file = write(**options)
    with pytest.raises(InputError, match=f"network.onnx.*{words}"):
        OnnxPainter(file)


@pytest.mark.parametrize("content", [b"", b"no ONNX at all", b"\x08\x0a" + b"\xff" * 300])
def test_a_file_that_is_no_onnx(tmp_path, content):
    file = tmp_path / "bad.onnx"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.onnx"):
        OnnxPainter(file)


def test_a_truncated_file_is_told_or_whole_enough(write):
    """Protobuf has no end mark: cut where a field ends, the last field alone is missing."""
    file = write()
    whole = file.read_bytes()
    refused = []
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        try:
            OnnxPainter(file)
        except InputError as error:
            refused.append(str(error))
    assert all("network.onnx" in message for message in refused)
    assert len(refused) >= len(whole) - 2


def test_missing_files_and_folders(tmp_path):
    for place in (tmp_path, tmp_path / "none.onnx"):
        with pytest.raises(InputError, match=r"cannot be read|no ONNX file"):
            OnnxPainter(place)


def test_weights_in_other_files_are_not_read(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(4))
    weight = onnx.TensorProto(name="w", data_type=FLOAT, dims=[1])
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="secret")
    info = [onnx.helper.make_tensor_value_info(name, FLOAT, NCHW) for name in ("photo", "painting")]
    node = onnx.helper.make_node("Add", ["photo", "w"], ["painting"])
    graph = onnx.helper.make_graph([node], "g", info[:1], info[1:], [weight])
    opsets = [onnx.helper.make_opsetid("", 20)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.helper.set_model_props(model, METADATA)
    file = tmp_path / "outside.onnx"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"outside\.onnx"):
        OnnxPainter(file)


def test_without_onnx_runtime(write, monkeypatch):
    file = write()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"pip install 'allaprima\[onnx\]'"):
        OnnxPainter(file)


def test_torch_is_not_loaded(write):
    code = (
        "import sys, numpy; from allaprima.onnx_painter import OnnxPainter; "
        f"OnnxPainter({str(write())!r})(numpy.zeros((8, 8, 3), numpy.float32)); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("value", ["plain", "1984", "null", "[1]", "", 1.5, None, {"a": [1]}])
def test_text_and_values_are_told_apart(value):
    text = as_text(value)
    try:
        read = json.loads(text)
    except ValueError:
        read = text
    assert read == value
