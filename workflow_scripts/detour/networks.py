"""Networks of this project, beside torchvision's. Torch alone: torchvision's take seconds to import."""

from torch import Tensor, nn


class Block(nn.Module):
    """Two convolutions of 3 x 3 and what goes around them (He et al. 2016, "Deep residual learning").

    Parameters
    ----------
    inputs, width
        Channels before and after it.
    stride
        Of the first convolution. Where it is not 1, or the channels change, what goes around is projected.
    """

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.around: nn.Module = nn.Identity()
        if stride != 1 or inputs != width:
            self.around = nn.Sequential(
                nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """float32 [b, width, H / stride, W / stride] of float32 [b, inputs, H, W]."""
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + self.around(x))


class SmallResNet(nn.Module):
    """A residual network for small images: a stem that halves them, and three stages that halve them twice.

    Parameters
    ----------
    classes
        Number of logits.
    blocks
        Of each stage.
    widths
        Channels of each stage; the stem has those of the first.
    """

    def __init__(
        self, classes: int, blocks: tuple[int, ...] = (3, 3, 2), widths: tuple[int, ...] = (16, 32, 64)
    ) -> None:
        super().__init__()
        stem = widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(3, stem, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(inplace=True),
        )
        self.blocks = nn.Sequential()
        inputs = stem
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            for i in range(count):
                self.blocks.append(Block(inputs, width, stride=2 if stage and i == 0 else 1))
                inputs = width
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, float32 [b, classes], of normalised pixels, float32 [b, 3, H, W]."""
        return self.fc(self.pool(self.blocks(self.stem(x))).flatten(1))

    def layers(self) -> list[str]:
        """The stem and every block."""
        return ["stem", *(f"blocks.{i}" for i in range(len(self.blocks)))]


# By their names in `classifier.model`; each takes the number of classes.
NETWORKS: dict[str, type[SmallResNet]] = {"small_resnet": SmallResNet}
