"""torchvision's ResNet as a body, adapted to images of 14x14."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from digitpairs.checks import InvalidValueError, integers

STAGES = 4


class ResNetBody:
    """Settings of torchvision's ResNet of basic blocks (He et al. 2016).

    torchvision's first convolution of 7x7 and stride 2 and its pool would leave 4x4 of a 14x14
    image. They are replaced by one convolution of 3x3, as is usual for small images: the stages
    see 14, 7, 4 and 2 pixels a side. The network has its own batch norm and ReLU. It cannot be
    stacked: each run trains alone.

    Args:
        blocks: basic blocks of each of the four stages, with 64, 128, 256 and 512 channels;
            [2, 2, 2, 2] is ResNet-18.
    """

    def __init__(self, blocks: Sequence[int] = (2, 2, 2, 2)) -> None:
        self.blocks = blocks

    def __call__(
        self, in_channels: int, rows_per_pair: int, activation: str, batch_norm: bool
    ) -> tuple[nn.Module, int]:
        """The body (rows, in_channels, 14, 14) -> (rows, 512), and 512."""
        # Imported here, since torchvision takes a second to import.
        from torchvision.models.resnet import BasicBlock, ResNet

        blocks = list(integers("blocks", self.blocks, length=STAGES))
        if activation != "relu":
            raise InvalidValueError("activation", activation, "relu for a ResNet")
        if not batch_norm:
            raise InvalidValueError("batch_norm", batch_norm, "true for a ResNet")
        network = ResNet(BasicBlock, blocks)
        features = network.fc.in_features
        network.conv1 = nn.Conv2d(in_channels, 64, kernel_size=3, padding=1, bias=False)
        network.maxpool, network.fc = nn.Identity(), nn.Identity()
        return network, features
