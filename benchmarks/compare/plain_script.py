"""Classes of photographs as a tutorial of torchvision has them: what many would write. It knows nothing of verydeep.

Usage: python plain_script.py vgg16 WEIGHTS.pth PHOTOGRAPH...
"""

import sys

import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms


class Photographs(Dataset[Tensor]):
    """Files as normalised tensors."""

    def __init__(self, files: list[str]) -> None:
        self.files = files
        self.view = transforms.Compose(
            [
                transforms.Resize(256),
                transforms.CenterCrop(224),
                transforms.ToTensor(),
                transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            ]
        )

    def __len__(self) -> int:
        """Number of files."""
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor:
        """A photograph."""
        view: Tensor = self.view(Image.open(self.files[index]).convert("RGB"))
        return view


def main(architecture: str, weights: str, files: list[str]) -> None:
    """Prints the five likeliest classes of each photograph."""
    state = torch.load(weights, weights_only=True)
    classes = len(state["classifier.6.bias"])
    net = getattr(torchvision.models, architecture)(num_classes=classes, init_weights=False)
    net.load_state_dict(state)
    net.eval()
    with torch.inference_mode():
        for batch in DataLoader(Photographs(files), batch_size=32):
            posteriors = net(batch).softmax(1)
            for values, indices in zip(*posteriors.topk(5), strict=True):
                print(" ".join(f"{index}:{value:.4f}" for index, value in zip(indices, values, strict=True)))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
