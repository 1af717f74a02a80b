"""Models of PyTorch's fast neural style example paint here what they paint there."""

import hashlib
import os
import pickle

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from typer.testing import CliRunner

from allaprima.entrypoints.import_generator import app
from allaprima.errors import InputError
from allaprima.importing import import_transformer_net
from allaprima.stylize import Stylizer
from allaprima.weights import load_generator, read_metadata, save_generator

BLOCKS = range(1, 6)


@pytest.fixture
def state():
    """Random weights under the example's names: 32-64-128, five blocks."""
    state = {}

    def convolution(name, num_in, num_out, kernel):
        bound = (num_in * kernel**2) ** -0.5
        shape = num_out, num_in, kernel, kernel
        state[f"{name}.conv2d.weight"] = torch.empty(shape).uniform_(-bound, bound)
        state[f"{name}.conv2d.bias"] = torch.empty(num_out).uniform_(-bound, bound)

    def norm(name, channels):
        state[f"{name}.weight"] = torch.empty(channels).uniform_(0.5, 1.5)
        state[f"{name}.bias"] = torch.empty(channels).uniform_(-0.5, 0.5)

    for i, (num_in, num_out, kernel) in enumerate(((3, 32, 9), (32, 64, 3), (64, 128, 3)), 1):
        convolution(f"conv{i}", num_in, num_out, kernel)
        norm(f"in{i}", num_out)
    for block in BLOCKS:
        for i in (1, 2):
            convolution(f"res{block}.conv{i}", 128, 128, 3)
            norm(f"res{block}.in{i}", 128)
    for i, (num_in, num_out, kernel) in enumerate(((128, 64, 3), (64, 32, 3), (32, 3, 9)), 1):
        convolution(f"deconv{i}", num_in, num_out, kernel)
        if i < 3:
            norm(f"in{i + 3}", num_out)
    # Some of the picture beyond 0 and 255, as trained ones have it.
    state["deconv3.conv2d.weight"] *= 150
    state["deconv3.conv2d.bias"] += torch.tensor([90.0, 120.0, 150.0])
    return state


def example(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The example's network, from its description: pixels of 0…255 to about 0…255."""

    def convolve(name, x, stride=1):
        weight, bias = state[f"{name}.conv2d.weight"], state[f"{name}.conv2d.bias"]
        margin = weight.shape[-1] // 2
        return F.conv2d(F.pad(x, [margin] * 4, mode="reflect"), weight, bias, stride)

    def normalize(name, x):
        mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), unbiased=False, keepdim=True)
        weight, bias = (state[f"{name}.{kind}"].view(1, -1, 1, 1) for kind in ("weight", "bias"))
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    for i, stride in ((1, 1), (2, 2), (3, 2)):
        x = normalize(f"in{i}", convolve(f"conv{i}", x, stride)).relu()
    for block in BLOCKS:
        body = normalize(f"res{block}.in1", convolve(f"res{block}.conv1", x)).relu()
        x = x + normalize(f"res{block}.in2", convolve(f"res{block}.conv2", body))
    for i in (1, 2):
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = normalize(f"in{i + 3}", convolve(f"deconv{i}", x)).relu()
    return convolve("deconv3", x)


def check_same(state, generator) -> None:
    for height, width in ((64, 48), (36, 100)):
        photo = torch.rand(2, 3, height, width)
        photo[0] *= 0.3  # a dark one: the scale of pixels must not be lost to the norms' epsilon
        with torch.no_grad():
            theirs = example(state, 255 * photo)
            cut = theirs.clamp(0, 255) / 255
            assert ((theirs < 0) | (theirs > 255)).float().mean() > 0.01
            assert cut.std() > 0.1
            torch.testing.assert_close(generator(photo), cut, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["wave.pth", "wave.model", "wave.safetensors"])
def test_the_same_picture(state, tmp_path, name):
    file = tmp_path / name
    (save_file if file.suffix == ".safetensors" else torch.save)(state, file)
    generator = import_transformer_net(file)
    assert generator.arguments["output"] == "linear"
    check_same(state, generator)
    with torch.no_grad():
        assert generator(torch.rand(1, 3, 33, 39)).shape == (1, 3, 33, 39)


@pytest.mark.parametrize(
    "wrap", [lambda s: {"state_dict": s}, lambda s: {f"module.{n}": t for n, t in s.items()}]
)
def test_stale_statistics_and_wrappings_are_left_behind(state, tmp_path, wrap):
    extended = dict(state)
    for name, channels in (("in1", 32), ("in5", 32), ("res3.in2", 128)):
        extended[f"{name}.running_mean"] = torch.zeros(channels)
        extended[f"{name}.running_var"] = torch.full((channels,), torch.nan)
        extended[f"{name}.num_batches_tracked"] = torch.tensor(7)
    torch.save(wrap(extended), tmp_path / "old.pth")
    check_same(state, import_transformer_net(tmp_path / "old.pth"))


def test_other_widths_and_depths(state, tmp_path):
    """Half the filters and two blocks: what the tensors say counts."""
    halved = {}
    for name, tensor in state.items():
        if name.startswith(("res3", "res4", "res5")):
            continue
        kept = tensor
        for axis in (0, 1) if "conv2d.weight" in name else (0,):
            count = kept.shape[axis]
            kept = kept.narrow(axis, 0, count if count == 3 else count // 2)
        halved[name] = kept.clone()
    torch.save(halved, tmp_path / "small.pth")
    generator = import_transformer_net(tmp_path / "small.pth")
    assert generator.arguments["filters"] == [16, 32, 64]
    assert generator.arguments["num_residual_blocks"] == 2


def test_the_command_writes_a_generator_that_paints(state, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(state, "wave.pth")
    result = CliRunner().invoke(app, ["wave.pth", "--licence", "MIT", "--title", "The Wave"])
    assert result.exit_code == 0, result.output
    assert "Wrote wave.safetensors" in result.output
    generator, metadata = load_generator("wave.safetensors")
    check_same(state, generator)
    assert metadata["style"]["licence"] == "MIT"
    assert metadata["style"]["title"] == "The Wave"
    with open("wave.pth", "rb") as file:
        assert metadata["imported_sha256"] == hashlib.sha256(file.read()).hexdigest()
    from PIL import Image

    photo = torch.randint(0, 256, (36, 40, 3), dtype=torch.uint8)
    painted = Stylizer("wave.safetensors", device="cpu")(Image.fromarray(photo.numpy()))
    theirs = example(state, photo.permute(2, 0, 1)[None].float())[0].permute(1, 2, 0)
    ours = torch.frombuffer(bytearray(painted.tobytes()), dtype=torch.uint8).view(36, 40, 3)
    assert (ours - theirs.clamp(0, 255)).abs().max() < 0.53  # rounding, and 1e-4 of 255

    again = CliRunner().invoke(app, ["wave.pth"])
    assert again.exit_code == 1
    assert again.output.startswith("error: wave.safetensors exists already")
    assert "--overwrite" in again.output


@pytest.mark.parametrize(
    "arguments", [["wave.safetensors"], ["link.pth", "-o", "wave.safetensors"]]
)
def test_the_command_keeps_the_model(state, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    save_file(state, "wave.safetensors")
    os.symlink("wave.safetensors", "link.pth")
    with open("wave.safetensors", "rb") as file:
        model = file.read()
    for more in ([], ["--overwrite"]):
        result = CliRunner().invoke(app, [*arguments, *more])
        assert result.exit_code == 1
        assert result.output.startswith("error: wave.safetensors is the model itself; name another")
    with open("wave.safetensors", "rb") as file:
        assert file.read() == model


def test_the_command_takes_any_name(state, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"m\xff")
    torch.save(state, f"{name}.pth")
    result = CliRunner().invoke(app, [f"{name}.pth"])
    assert result.exit_code == 0, result.output
    metadata = read_metadata(f"{name}.safetensors")
    assert metadata["style"]["title"] == "m?"
    assert metadata["recipe"].endswith("imported from m?.pth")


def test_the_command_names_what_is_beyond_float16(state, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state["conv1.conv2d.weight"][:] = 400.0
    torch.save(state, "wave.pth")
    result = CliRunner().invoke(app, ["wave.pth", "--float16"])
    assert result.exit_code == 1
    assert (
        "wave.safetensors: weights exceed float16's range (65504): down.0.0.weight" in result.output
    )
    assert "leave out --float16" in result.output
    assert os.listdir() == ["wave.pth"]


# What is no such model


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("boom",)


def test_code_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.conv2d.weight": Bomb()}, "bomb.pth")
    with pytest.raises(InputError, match=r"bomb\.pth: refused, .* run code .*mkdir"):
        import_transformer_net("bomb.pth")
    assert not os.path.exists("boom")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("in3.bias"), r"missing: in3\.bias; it is not the transformer network"),
        (lambda s: s.pop("res2.conv2.conv2d.weight"), r"missing: res2\.conv2\.conv2d\.weight"),
        (lambda s: s.update({"res9.in1.weight": torch.ones(128)}), r"missing: res9\.conv1"),
        (lambda s: s.update({"conv4.conv2d.bias": torch.ones(3)}), r"conv4\.conv2d\.bias has no"),
        (lambda s: s.update({"in2.bias": torch.ones(65)}), r"in2\.bias is of shape \(65,\); .*64"),
        (
            lambda s: s.update({"deconv3.conv2d.weight": torch.ones(1, 32, 9, 9)}),
            r"deconv3\.conv2d\.weight is of shape \(1, 32, 9, 9\); must be \(3, 32, 9, 9\)",
        ),
        (lambda s: s.update({"in1.bias": torch.ones(32).long()}), r"in1\.bias holds torch\.int64"),
        (lambda s: s.update({"in1.bias": torch.full((32,), torch.nan)}), r"none: in1\.bias"),
        (lambda s: s.update({"in1.bias": torch.empty(0)}), r"in1\.bias is empty"),
        (lambda s: s.update({"in1.bias": 3}), r"in1\.bias is int, no plain tensor"),
        (lambda s: s.update({"in1.bias": torch.eye(3).to_sparse()}), r"no plain tensor"),
        (
            lambda s: s.update({"in1.bias": torch.ones(1).expand(10**13)}),
            r"in1\.bias .* holds \(it",
        ),
        (lambda s: s.update({"in1.bias": s["in1.weight"]}), r"in1\.(bias|weight) .*shared"),
        (lambda s: s.update({"in1.bias": torch.ones(32, device="meta")}), r"in1\.bias .* meta"),
        (
            lambda s: s["conv1.conv2d.weight"].fill_(3e38),
            r"infinite or none: conv1\.conv2d\.weight",
        ),
        (
            lambda s: s.update({"conv2.conv2d.bias": torch.tensor(0.0)}),
            r"conv2\.conv2d\.bias is of shape \(\)",
        ),
        (lambda s: s.update({"module.in1.bias": torch.ones(32)}), r"in1\.bias is there twice"),
        (
            lambda s: s.update({f"res{'1' * 5000}.in1.bias": torch.ones(9)}),
            r"res1{57} has no place",
        ),
        (lambda s: s.update({"in1.bias\n\x1b[31m": torch.ones(9)}), r"name is no plain text"),
        (lambda s: s.update({5: torch.ones(9)}), r"name is no plain text"),
        (lambda s: s.update({"conv1.conv2d.weight": torch.tensor(1.0)}), r"of shape \(\); must"),
        (lambda s: s.clear(), "holds no state dict"),
    ],
)
def test_another_network_is_refused(state, tmp_path, change, words):
    change(state)
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(InputError, match=rf"bad\.pth: .*{words}") as caught:
        import_transformer_net(tmp_path / "bad.pth")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.bfloat16, torch.float64])
def test_other_fractions(state, tmp_path, dtype):
    state = {name: tensor.to(dtype) for name, tensor in state.items()}
    torch.save(state, tmp_path / "other.pth")
    weights = import_transformer_net(tmp_path / "other.pth").state_dict()
    assert torch.equal(
        weights["residual.0.body.0.weight"], state["res1.conv1.conv2d.weight"].float()
    )


def test_programs_and_no_files_are_told_in_one_line(tmp_path, recwarn):
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), tmp_path / "jit.pt")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Bomb(), protocol=4))
    (tmp_path / "text.pth").write_text("hello world")
    recwarn.clear()
    problems = {
        "jit.pt": r": refused, for a TorchScript archive is a program\. .*state_dict\(\)",
        "plain.pth": r": refused, .*more than tensors",
        "text.pth": r": damaged.* or no file of torch\.save$",
        "": r": this is a folder",
        "n" * 300: r": File name too long$",
    }
    for name, problem in problems.items():
        with pytest.raises(InputError, match=problem) as caught:
            import_transformer_net(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))
        assert "weights_only" not in str(caught.value)
    assert not recwarn.list


@pytest.mark.parametrize("name", ["bad.pth", "bad.safetensors"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no more", b"\x80\x02", b"text" * 99])
def test_damaged_files(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: "):
        import_transformer_net(tmp_path / name)


def test_truncated_and_missing(state, tmp_path):
    torch.save(state, whole := tmp_path / "whole.pth")
    (tmp_path / "half.pth").write_bytes(whole.read_bytes()[:100_000])
    for name in ("half.pth", "none.pth", "."):
        with pytest.raises(InputError, match=r"damaged|no such file|folder"):
            import_transformer_net(tmp_path / name)


def test_our_own_files_are_told_apart(state, tmp_path):
    torch.save(state, tmp_path / "wave.pth")
    save_generator(
        ours := tmp_path / "o.safetensors", import_transformer_net(tmp_path / "wave.pth"), {}
    )
    with pytest.raises(InputError, match="missing: deconv3"):
        import_transformer_net(ours)
