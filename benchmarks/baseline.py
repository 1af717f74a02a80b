"""The yardstick: the plain float32 training step that a reader of the paper would write.

Same networks, weights and loss terms as the default recipe; nothing done for speed: NCHW, native
instance norm, the loss network in full on the photo and on the output, Gram matrices by
transposing, every loss by a line of its own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from allaprima.loss_network import LossNetwork

STYLE_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
CONTENT_LAYER = "relu3_3"


class PlainVGG(nn.Module):
    """The loss network's convolutions as ordinary layers, run in order to the last style layer."""

    def __init__(self, network: LossNetwork):
        super().__init__()
        self.layers = nn.ModuleDict()
        for name in network.layers[: network.layers.index(STYLE_LAYERS[-1]) + 1]:
            if name.startswith("conv"):
                frozen = network.get_submodule(name)
                conv = nn.Conv2d(frozen.weight.shape[1], frozen.weight.shape[0], 3, padding=1)
                conv.weight.data = frozen.weight.contiguous()
                conv.bias.data = frozen.bias
                self.layers[name] = conv
            else:
                self.layers[name] = nn.MaxPool2d(2) if name.startswith("pool") else nn.ReLU()
        self.mean, self.std = network.mean, network.std
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        activations, x = {}, (images - self.mean) / self.std
        for name, layer in self.layers.items():
            x = activations[name] = layer(x)
        return activations


class PlainStep:
    """One training step: ``PlainStep(generator, network, style)(photos)`` is its loss."""

    def __init__(self, generator: nn.Module, network: LossNetwork, style: Tensor, lr: float = 1e-3):
        self.generator = generator
        self.network = PlainVGG(network)
        self.optimizer = torch.optim.Adam(generator.parameters(), lr)
        with torch.no_grad():
            activations = self.network(style[None])
            self.target = {layer: gram(activations[layer]) for layer in STYLE_LAYERS}

    def __call__(self, photos: Tensor) -> float:
        self.optimizer.zero_grad()
        painted = self.generator(photos)
        of_painted = self.network(painted)
        with torch.no_grad():
            of_photo = self.network(photos)
        content = of_photo[CONTENT_LAYER]
        loss = F.mse_loss(of_painted[CONTENT_LAYER], content) / content.square().mean()
        for layer in STYLE_LAYERS:
            target = self.target[layer].expand(len(photos), -1, -1)
            error = F.mse_loss(gram(of_painted[layer]), target) / target.square().mean()
            loss = loss + 2.5 * error
        loss = loss + 0.05 * (
            (painted[..., 1:, :] - painted[..., :-1, :]).square().mean()
            + (painted[..., 1:] - painted[..., :-1]).square().mean()
        )
        loss.backward()
        self.optimizer.step()
        return loss.item()


def gram(features: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, C), over H·W."""
    batch, channels, height, width = features.shape
    f = features.view(batch, channels, height * width)
    return f.bmm(f.transpose(1, 2)) / (height * width)
