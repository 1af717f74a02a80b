"""Generator files: what is saved is loaded again, and nothing else gets in."""

import json
import os
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from contextlib import suppress

import pytest
import torch
from safetensors.torch import load_file, save_file

from allaprima import architectures, weights
from allaprima.errors import InputError
from allaprima.generators.johnson import JohnsonGenerator
from allaprima.weights import (
    FORMAT_VERSION,
    describe_generator,
    find_generator,
    list_generators,
    load_generator,
    read_metadata,
    save_generator,
)

METADATA = {
    "style": {"name": "wave", "title": "The Great Wave", "year": 1831, "licence": "public domain"},
    "recipe": "lr: 0.001\nsteps: 450\n",
    "metrics": {"style loss": 0.0451, "steps": 450},
    "texts that look like JSON": ["1984", "NaN", "null"],
    "number": 0.1,
    "text number": "1984",
    "text list": "[1]",
    "nothing": None,
    "empty": "",
}


@pytest.fixture
def generator():
    """Small, in no way special, with weights that are not the initial ones of norms."""
    generator = JohnsonGenerator((3, 4, 5), num_residual_blocks=2, upsampling="transposed")
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return generator.eval()


@pytest.fixture
def photo():
    return torch.rand(1, 3, 21, 34)


@pytest.fixture
def parts(generator):
    """Tensors and header of a sound file, for spoiling."""
    header = {
        "format_version": FORMAT_VERSION,
        "generator": "johnson",
        "arguments": json.dumps(generator.arguments),
    }
    return dict(generator.state_dict()), header


def test_float32_is_kept_to_the_bit(tmp_path, generator, photo):
    file = tmp_path / "new/wave.safetensors"
    save_generator(file, generator, METADATA)
    loaded, metadata = load_generator(file)
    with torch.inference_mode():
        assert torch.equal(loaded(photo), generator(photo))
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    own = {"format_version": "1", "generator": "johnson", "arguments": generator.arguments}
    assert metadata == METADATA | own == read_metadata(file)
    assert [f.name for f in file.parent.iterdir()] == ["wave.safetensors"]


def test_half_is_half_the_size_and_nearly_the_same_picture(tmp_path, photo):
    generator = JohnsonGenerator((8, 16, 32)).eval()
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    save_generator(whole, generator, {})
    save_generator(half, generator, {}, half=True)
    assert half.stat().st_size < 0.55 * whole.stat().st_size
    loaded, _ = load_generator(half)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert (loaded(photo) - generator(photo)).abs().max() < 1 / 255


@pytest.mark.parametrize("half", [False, True])
def test_batch_norm_keeps_its_statistics_and_counts(tmp_path, photo, half):
    generator = JohnsonGenerator((4, 4, 4), 1, norm="batch", padding="start")
    generator(photo)
    generator.eval()
    save_generator(tmp_path / "batch.safetensors", generator, {}, half=half)
    loaded, _ = load_generator(tmp_path / "batch.safetensors")
    assert loaded.down[0][1].num_batches_tracked == 1
    torch.testing.assert_close(loaded(photo), generator(photo), rtol=0, atol=half * 0.01)


def test_the_header_is_plain_text_that_any_reader_finds(tmp_path, generator):
    file = tmp_path / "wave.safetensors"
    save_generator(file, generator.to(memory_format=torch.channels_last), METADATA)
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])["__metadata__"]
    assert header["format_version"] == "1"
    assert header["generator"] == "johnson"
    assert json.loads(header["arguments"]) == generator.arguments
    assert header["recipe"] == METADATA["recipe"]
    assert json.loads(header["style"]) == METADATA["style"]
    assert load_file(file).keys() == generator.state_dict().keys()


def test_the_same_weights_and_metadata_give_the_same_bytes(tmp_path, generator):
    files = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    for file in files:
        save_generator(file, generator, METADATA)
    one, other = (file.read_bytes() for file in files)
    assert one == other
    (length,) = struct.unpack("<Q", one[:8])
    assert length % 8 == 0, "where tensors begin, for readers that map the file"
    metadata = json.loads(one[8 : 8 + length])["__metadata__"]
    assert list(metadata) == sorted(metadata)


def test_an_existing_file_is_kept_unless_told(tmp_path, generator):
    file = tmp_path / "wave.safetensors"
    save_generator(file, generator, {"style": "old"})
    with pytest.raises(InputError, match=r"wave\.safetensors exists already"):
        save_generator(file, generator, {"style": "new"})
    assert read_metadata(file)["style"] == "old"
    save_generator(file, generator, {"style": "new"}, overwrite=True)
    assert read_metadata(file)["style"] == "new"


def test_what_could_not_be_loaded_is_not_saved(tmp_path, generator):
    with pytest.raises(InputError, match=r"ends in \.safetensors"):
        save_generator(tmp_path / "wave.pth", generator, {})
    with pytest.raises(InputError, match=r"Linear is no class of allaprima\.generators"):
        save_generator(tmp_path / "wave.safetensors", torch.nn.Linear(1, 1), {})
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(InputError, match="cannot be written"):
        save_generator(tmp_path / "file/wave.safetensors", generator, {})
    with pytest.raises(InputError, match=r"n{300}\.safetensors cannot be .*: File name too long"):
        save_generator(tmp_path / f"{'n' * 300}.safetensors", generator, {})
    for value, problem in (
        (1e9, r"wave.* exceed float16.*: to_rgb\.bias; leave"),
        (torch.inf, "none"),
    ):
        with torch.no_grad():
            generator.to_rgb.bias[1] = value
        with pytest.raises(InputError, match=problem):
            save_generator(tmp_path / "wave.safetensors", generator, {}, half=True)
    assert [f.name for f in tmp_path.iterdir()] == ["file"]


HEADERS = {
    "other version": ({"format_version": "2"}, r"format version '2'; this release reads '1'"),
    "no version": ({"format_version": None}, "not a generator of allaprima"),
    "no generator": ({"generator": None}, "unknown generator None; known are johnson"),
    "unknown generator": ({"generator": "monet"}, "unknown generator 'monet'; known are johnson"),
    "module elsewhere": ({"generator": "this"}, "unknown generator 'this'"),
    "dotted": ({"generator": "johnson.torch"}, "unknown generator"),
    "absolute": ({"generator": "allaprima.generators.johnson"}, "unknown generator"),
    "path": ({"generator": "../training"}, "unknown generator"),
    "no arguments": ({"arguments": None}, "arguments None do not fit JohnsonGenerator"),
    "not JSON": ({"arguments": "{"}, "arguments '{' do not fit JohnsonGenerator"),
    "deep JSON": ({"arguments": "[" * 100_000}, "do not fit JohnsonGenerator"),
    "no object": ({"arguments": "[3]"}, "do not fit JohnsonGenerator"),
    "unknown argument": ({"arguments": {"colour": 1}}, "unexpected keyword argument 'colour'"),
    "unknown norm": ({"arguments": {"norm": "group"}}, "norm=group; choose one of instance"),
    "wrong type": ({"arguments": {"filters": "abc"}}, "do not fit JohnsonGenerator"),
    "unhashable": ({"arguments": {"norm": []}}, "do not fit JohnsonGenerator"),
    "negative": ({"arguments": {"filters": [-1, 4, 5]}}, "do not fit JohnsonGenerator"),
    "huge": ({"arguments": {"filters": [10**9, 4, 5]}}, r"must be fractions of shape \(1000000000"),
    "overflowing": ({"arguments": {"filters": [10**15, 10**15, 5]}}, "do not fit"),
    "beyond 64 bits": ({"arguments": {"filters": [10**30, 4, 5]}}, "do not fit"),
    "endless": ({"arguments": {"num_residual_blocks": 10**12}}, "=1000000000000 in a file of 38"),
    "backwards": ({"arguments": {"num_residual_blocks": -1}}, "num_residual_blocks=-1"),
    "other blocks": ({"arguments": {"num_residual_blocks": 3}}, "dilations=.*each of the 3"),
    "far apart": ({"arguments": {"dilations": [1, 10**9]}}, "whole number from 1 to 3"),
    "no numbers": ({"arguments": {"dilations": "12"}}, "dilations=12; give"),
    "more blocks": (
        {"arguments": {"num_residual_blocks": 3, "dilations": None}},
        r"missing: residual.* and 5 more",
    ),
    "fewer blocks": (
        {"arguments": {"num_residual_blocks": 1, "dilations": None}},
        r"no residual.* and 5 more",
    ),
}


@pytest.mark.parametrize(("change", "problem"), HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_a_false_header_is_named(tmp_path, parts, change, problem, suffix):
    file = tmp_path / f"stranger{suffix}"
    tensors, header = parts
    if isinstance(change.get("arguments"), dict):
        change = {"arguments": json.dumps(json.loads(header["arguments"]) | change["arguments"])}
    header = {k: v for k, v in {**header, **change}.items() if v is not None}
    if suffix == ".safetensors":
        save_file(tensors, file, header)
    else:
        with suppress(KeyError, ValueError, RecursionError):
            header["arguments"] = json.loads(header["arguments"])
        torch.save({"allaprima": {**header, "weights": tensors, "metadata": {}}}, file)
    start = time.monotonic()
    with pytest.raises(InputError, match=problem) as caught:
        load_generator(file)
    assert str(caught.value).startswith(str(file))
    assert len(str(caught.value).splitlines()) == 1
    assert time.monotonic() - start < 2
    assert "this" not in sys.modules


TENSORS = {
    "missing": (lambda t: {k: t[k] for k in t if k != "to_rgb.bias"}, r"missing: to_rgb\.bias"),
    "extra": (lambda t: {**t, "gift": torch.ones(1)}, "JohnsonGenerator has no gift"),
    "misshapen": (
        lambda t: {**t, "to_rgb.bias": torch.ones(4)},
        r"to_rgb\.bias is fractions of shape \(4\); must be fractions of shape \(3\)",
    ),
    "integers": (
        lambda t: {**t, "to_rgb.bias": torch.ones(3, dtype=torch.int64)},
        r"to_rgb\.bias is integers of shape \(3\)",
    ),
    "NaN": (lambda t: {**t, "to_rgb.bias": torch.tensor([0, torch.nan, 0])}, r"NaN.*to_rgb\.bias"),
    "infinite": (lambda t: {**t, "to_rgb.bias": torch.full((3,), torch.inf)}, r"to_rgb\.bias"),
    "too large for float32": (
        lambda t: {**t, "to_rgb.bias": torch.full((3,), 1e300, dtype=torch.float64)},
        r"to_rgb\.bias",
    ),
    "none": (lambda t: {}, "in a file of 0 tensors"),
}


@pytest.mark.parametrize(("spoil", "problem"), TENSORS.values(), ids=TENSORS)
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_false_tensors_are_named(tmp_path, parts, spoil, problem, suffix):
    file = tmp_path / f"stranger{suffix}"
    tensors, header = parts
    if suffix == ".safetensors":
        save_file(spoil(tensors), file, header)
    else:
        write_checkpoint(file, parts, weights=spoil(tensors))
    with pytest.raises(InputError, match=problem) as caught:
        load_generator(file)
    assert str(caught.value).startswith(str(file))


def test_what_is_no_generator_file_is_named(tmp_path, generator):
    file = tmp_path / "wave.safetensors"
    with pytest.raises(InputError, match="there is no such file"):
        load_generator(file)
    with pytest.raises(InputError, match="this is a folder"):
        load_generator(tmp_path)
    for read in (load_generator, find_generator):
        with pytest.raises(InputError, match=r"n{300}: File name too long"):
            read("n" * 300)
    save_file({"a": torch.ones(1)}, file)
    with pytest.raises(InputError, match="not a generator of allaprima"):
        load_generator(file)
    save_generator(file, generator, METADATA, overwrite=True)
    whole = file.read_bytes()
    for content in (b"", b"text", whole[:5], whole[:100], whole[:-1], whole[8:], whole + b"x"):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"wave\.safetensors: damaged, incomplete or not"):
            load_generator(file)
    with pytest.raises(InputError, match=r"wave\.safetensors"):
        read_metadata(file)


def write_checkpoint(file, parts, **changes):
    tensors, header = parts
    entry = {**header, "arguments": json.loads(header["arguments"]), "weights": tensors}
    entry |= {"metadata": {"style": {"name": "wave"}}, **changes}
    torch.save({"epoch": 0, "state_dict": {"loss.x": torch.ones(3)}, "allaprima": entry}, file)


def test_a_checkpoint_of_training_is_read(tmp_path, generator, parts, photo):
    file = tmp_path / "last.ckpt"
    write_checkpoint(file, parts)
    loaded, metadata = load_generator(file)
    with torch.inference_mode():
        assert torch.equal(loaded(photo), generator(photo))
    assert metadata["style"] == {"name": "wave"}
    assert metadata["arguments"] == generator.arguments


class Payload:
    """Unpickled, it makes a file: what a stranger's checkpoint could do instead."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path, parts):
    proof = tmp_path / "it ran"
    plain, zipped, hidden = (tmp_path / f"{n}.ckpt" for n in ("plain", "zipped", "hidden"))
    plain.write_bytes(pickle.dumps({"allaprima": Payload(proof)}, protocol=2))
    torch.save({"allaprima": Payload(proof)}, zipped)
    write_checkpoint(hidden, parts, metadata={"style": Payload(proof)})
    for file in (plain, zipped, hidden):
        with pytest.raises(InputError, match=r"refused, for .* run code .*mkdir") as caught:
            load_generator(file)
        assert str(caught.value).startswith(str(file))
        assert not proof.exists()
    torch.load(zipped, weights_only=False)  # the payload does work
    assert proof.exists()


def test_a_checkpoint_without_our_generator_is_named(tmp_path, parts):
    file = tmp_path / "last.ckpt"
    for content in ({"state_dict": {}}, [1, 2], {"allaprima": "wave"}):
        torch.save(content, file)
        with pytest.raises(InputError, match=r"last\.ckpt: holds no generator"):
            load_generator(file)
    for change in ({"weights": None}, {"metadata": None}, {"weights": torch.ones(3)}):
        write_checkpoint(file, parts, **change)
        with pytest.raises(InputError, match="no weights or no metadata"):
            load_generator(file)
    odd = {
        "text": "a painting",
        "sparse": torch.ones(3).to_sparse(),
        "without storage": torch.ones(3, device="meta"),
        "spread from one number": torch.ones(1).expand(10**12),
    }
    for value in odd.values():
        write_checkpoint(file, parts, weights={**parts[0], "to_rgb.bias": value})
        with pytest.raises(InputError, match=r"to_rgb\.bias|plain numbers"):
            load_generator(file)


@pytest.mark.parametrize(
    "spread", [lambda t: torch.zeros(1).expand(t.shape), lambda t: t.to("meta")]
)
def test_nothing_is_allocated_that_the_file_does_not_hold(tmp_path, parts, spread, monkeypatch):
    monkeypatch.setattr(architectures, "check_finite", lambda weights: pytest.fail("allocated"))
    file = tmp_path / "last.ckpt"
    write_checkpoint(file, parts, weights={name: spread(t) for name, t in parts[0].items()})
    with pytest.raises(InputError, match=r"last\.ckpt: down.* more numbers than the file holds"):
        load_generator(file)


def test_what_many_tensors_share_counts_for_each(tmp_path, parts):
    tensors, _ = parts
    whole = torch.cat([tensor.flatten() for tensor in tensors.values()])
    own = whole.split([tensor.numel() for tensor in tensors.values()])
    views = {name: part.view_as(tensors[name]) for name, part in zip(tensors, own, strict=True)}
    write_checkpoint(file := tmp_path / "last.ckpt", parts, weights=views)
    load_generator(file)
    name, other = "residual.0.body.0.weight", "residual.1.body.0.weight"
    write_checkpoint(file, parts, weights={**tensors, name: tensors[other]})
    with pytest.raises(InputError, match=f"{other} .*shared"):
        load_generator(file)


def test_a_damaged_checkpoint_is_named(tmp_path, parts):
    file = tmp_path / "last.ckpt"
    write_checkpoint(file, parts)
    whole = file.read_bytes()
    with zipfile.ZipFile(tmp_path / "other.ckpt", "w") as archive:
        archive.writestr("readme", "some other archive")
    other = (tmp_path / "other.ckpt").read_bytes()
    for content in (b"", b"text", whole[:100], whole[: len(whole) // 2], whole[:-1], other):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"last\.ckpt: (damaged|refused)"):
            load_generator(file)


def test_a_generator_is_found_by_path_and_by_shipped_name(tmp_path, generator, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(weights, "resource_dir", lambda name: tmp_path / name)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match=r"wave is neither .*none is shipped yet.*train\.py"):
        find_generator("wave")
    for name in ("wave", "scream"):
        save_generator(tmp_path / f"checkpoints/{name}.safetensors", generator, {})
    assert find_generator("wave") == tmp_path / "checkpoints/wave.safetensors"
    assert list(list_generators()) == ["scream", "wave"]
    with pytest.raises(InputError, match=r"udnie is neither .*shipped are scream, wave"):
        find_generator("udnie")
    with pytest.raises(InputError, match="neither"):
        find_generator("../checkpoints/wave")
    (tmp_path / "wave").mkdir()  # a folder of that name is in nobody's way
    assert find_generator("wave").parent.name == "checkpoints"
    own = tmp_path / "own.ckpt"
    own.touch()
    assert find_generator("own.ckpt").resolve() == own.resolve()


def test_every_shipped_generator_paints(photo):
    for file in list_generators().values():
        generator, metadata = load_generator(file)
        assert generator(photo).shape == photo.shape
        assert metadata["style"]["licence"]


def test_a_generator_describes_itself(generator):
    assert describe_generator(generator) == {
        "generator": "johnson",
        "arguments": generator.arguments,
    }


def test_importing_weights_loads_neither_torch_nor_lightning_nor_hydra():
    code = "import sys, allaprima.weights; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "pytorch_lightning", "hydra"} & set(run.stdout.split())


def test_the_longest_of_names_can_be_written(generator, tmp_path):
    save_generator(path := tmp_path / f"{'x' * 243}.safetensors", generator, {})
    assert [*tmp_path.iterdir()] == [path]
