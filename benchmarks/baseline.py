"""The yardstick: the plain float32 training loop that a reader of Johnson 2016 would write.

Networks, weights and losses of the paper with instance norm and our own networks' upsampling;
nothing done for speed: eager, NCHW, float32, native instance norm, the loss network in full on the
photo and on the output, Gram matrices by transposing, every loss by a line of its own.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from allaprima.loss_network import LossNetwork

STYLE_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
CONTENT_LAYER = "relu2_2"
CONTENT_WEIGHT, STYLE_WEIGHT, TOTAL_VARIATION_WEIGHT = 1.0, 5.0, 1e-6  # as in loss=johnson
LEARNING_RATE = 1e-3


class PlainGenerator(nn.Module):
    """Johnson 2016's network; parameters in the order of :class:`JohnsonGenerator`'s."""

    def __init__(self, filters: Sequence[int] = (32, 64, 128), num_residual_blocks: int = 5):
        super().__init__()
        a, b, c = filters
        self.down = nn.Sequential(
            *conv_norm(3, a, 9), nn.ReLU(), *conv_norm(a, b, 3, 2), nn.ReLU(),
            *conv_norm(b, c, 3, 2), nn.ReLU(),
        )  # fmt: skip
        self.blocks = nn.ModuleList(
            nn.Sequential(*conv_norm(c, c, 3), nn.ReLU(), *conv_norm(c, c, 3))
            for _ in range(num_residual_blocks)
        )
        self.up = nn.Sequential(
            *upsample(c, b), nn.ReLU(),
            *upsample(b, a), nn.ReLU(),
        )  # fmt: skip
        self.to_rgb = nn.Conv2d(a, 3, 9, padding=4, padding_mode="reflect")

    def forward(self, photos: Tensor) -> Tensor:
        x = self.down(photos - 0.5)
        for block in self.blocks:
            x = x + block(x)
        return 0.5 + 0.5 * torch.tanh(self.to_rgb(self.up(x)))

    def copy_weights(self, generator: nn.Module) -> "PlainGenerator":
        """Take over another generator's parameters, which have the same order."""
        pairs = zip(self.parameters(), generator.parameters(), strict=True)
        for mine, theirs in pairs:
            assert mine.shape == theirs.shape, (mine.shape, theirs.shape)
            mine.data.copy_(theirs.detach())
        return self


def conv_norm(num_in: int, num_out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(num_in, num_out, kernel, stride, kernel // 2, padding_mode="reflect"),
        nn.InstanceNorm2d(num_out, affine=True),
    ]


class Enlarge(nn.Module):
    """Smoothed by ¼, ½, ¼ and twice as large, with a margin of one pixel."""

    def forward(self, x: Tensor) -> Tensor:
        taps = torch.tensor([0.25, 0.5, 0.25], device=x.device)
        kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 3, 3)
        x = F.conv2d(F.pad(x, (2,) * 4, mode="replicate"), kernel, groups=x.shape[1])
        return F.interpolate(x, scale_factor=2, mode="bilinear")[..., 1:-1, 1:-1]


def upsample(num_in: int, num_out: int) -> list[nn.Module]:
    return [
        Enlarge(),
        nn.Conv2d(num_in, num_out, 3),
        nn.InstanceNorm2d(num_out, affine=True),
    ]


class PlainVGG(nn.Module):
    """The loss network's convolutions as ordinary layers, run in order to ``deepest``."""

    def __init__(self, network: LossNetwork, deepest: str = STYLE_LAYERS[-1]):
        super().__init__()
        self.layers = nn.ModuleDict()
        for name in network.layers[: network.layers.index(deepest) + 1]:
            if name.startswith("conv"):
                frozen = network.get_submodule(name)
                conv = nn.Conv2d(frozen.weight.shape[1], frozen.weight.shape[0], 3, padding=1)
                conv.weight.data = frozen.weight.detach().clone(
                    memory_format=torch.contiguous_format
                )
                conv.bias.data = frozen.bias.detach().clone()
                self.layers[name] = conv
            else:
                self.layers[name] = nn.MaxPool2d(2) if name.startswith("pool") else nn.ReLU()
        self.register_buffer("mean", network.mean.clone())
        self.register_buffer("std", network.std.clone())
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        activations, x = {}, (images - self.mean) / self.std
        for name, layer in self.layers.items():
            x = activations[name] = layer(x)
        return activations


class PlainLoss(nn.Module):
    """Content, style and total variation as in the paper: ``loss(painted, photos)``."""

    def __init__(self, network: LossNetwork, style: Tensor):
        super().__init__()
        self.network = PlainVGG(network)
        with torch.no_grad():
            activations = self.network(style[None])
        self.targets = {layer: gram(activations[layer]) for layer in STYLE_LAYERS}

    def forward(self, painted: Tensor, photos: Tensor) -> Tensor:
        of_painted = self.network(painted)
        with torch.no_grad():
            of_photo = self.network(photos)
        loss = CONTENT_WEIGHT * F.mse_loss(of_painted[CONTENT_LAYER], of_photo[CONTENT_LAYER])
        for layer in STYLE_LAYERS:
            target = self.targets[layer].expand(len(photos), -1, -1)
            loss = loss + STYLE_WEIGHT * F.mse_loss(gram(of_painted[layer]), target)
        down = painted[..., 1:, :] - painted[..., :-1, :]
        across = painted[..., 1:] - painted[..., :-1]
        variation = (255 * down).square().sum() + (255 * across).square().sum()
        return loss + TOTAL_VARIATION_WEIGHT * variation / len(photos)


class PlainStep:
    """One training step: ``PlainStep(generator, loss)(photos)`` is its loss."""

    def __init__(self, generator: nn.Module, loss: PlainLoss, lr: float = LEARNING_RATE):
        self.generator, self.loss = generator, loss
        self.optimizer = torch.optim.Adam(generator.parameters(), lr)

    def __call__(self, photos: Tensor) -> float:
        self.optimizer.zero_grad()
        loss = self.loss(self.generator(photos), photos)
        loss.backward()
        self.optimizer.step()
        return loss.item()


def gram(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, C), over C·H·W."""
    batch, channels, height, width = features.shape
    f = features.view(batch, channels, height * width)
    return f.bmm(f.transpose(1, 2)) / (channels * height * width)
