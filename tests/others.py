"""Networks as people write them, for tests that bring them from a file; torch alone."""

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class BasicBlock(nn.Module):
    """As in the usual ResNets for CIFAR: functions in place of modules, and a shortcut that may be empty."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


class CifarResNet(nn.Module):
    def __init__(self, num_classes: int, channels: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(4 * width, num_classes)
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(BasicBlock(width, width, 1), BasicBlock(width, width, 1))
        self.layer2 = nn.Sequential(BasicBlock(width, 2 * width, 2))
        self.layer3 = nn.Sequential(BasicBlock(2 * width, 4 * width, 2))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.linear(F.avg_pool2d(out, out.shape[-1]).flatten(1))


def cifar_resnet(num_classes: int = 10, channels: int = 3, width: int = 8) -> CifarResNet:
    return CifarResNet(num_classes, channels, width)


class Separable(nn.Module):
    """Of a MobileNetV1: nothing but one after the other."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.depth = Unit(inputs, inputs, inputs)
        self.point = Unit(inputs, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.point(self.depth(x))


class Unit(nn.Sequential):
    def __init__(self, inputs: int, width: int, groups: int = 1) -> None:
        conv = nn.Conv2d(inputs, width, 3, padding=1, groups=groups)
        super().__init__(conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


def mobilenet_v1() -> nn.Module:
    return nn.Sequential(
        Unit(3, 8),
        Separable(8, 8),
        Separable(8, 16),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


class LeNet(nn.Module):
    """Without a module that has modules within, or an activation function that is one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2 = nn.Linear(400, 20), nn.Linear(20, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Deciding(nn.Module):
    """What torch.fx cannot trace: it looks at its input."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x if x.mean() > 0 else -x)
        return self.fc(y.mean((2, 3)))


def vit(num_labels: int = 10) -> nn.Module:
    """A network of transformers, which takes seconds to import."""
    import transformers

    config = transformers.AutoConfig.for_model(
        "vit", num_labels=num_labels, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=16, image_size=16, patch_size=4,
    )  # fmt: skip
    return transformers.AutoModelForImageClassification.from_config(config)


def broken(num_classes: int = 10) -> nn.Module:
    raise RuntimeError("no such thing")


def number() -> int:
    return 3
