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


class PlainStep:
    """One training step: ``PlainStep(generator, network, style)(photos)`` is its loss."""

    def __init__(self, generator: nn.Module, network: LossNetwork, style: Tensor, lr: float = 1e-3):
        self.generator = generator.to(memory_format=torch.contiguous_format)
        self.network = network.to(memory_format=torch.contiguous_format)
        self.optimizer = torch.optim.Adam(generator.parameters(), lr)
        with torch.no_grad():
            self.target = {k: gram(f) for k, f in self.network(style[None], STYLE_LAYERS).items()}

    def __call__(self, photos: Tensor) -> float:
        self.optimizer.zero_grad()
        painted = self.generator(photos)
        of_painted = self.network(painted, STYLE_LAYERS)
        with torch.no_grad():
            of_photo = self.network(photos, STYLE_LAYERS)
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
