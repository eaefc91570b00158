"""Classes of one photograph by ONNX Runtime: the least that somebody would write. It knows nothing of verydeep.

The whole photograph and its mirror image, as ``verydeep predict`` takes it.

Usage: python onnx_script.py NET.onnx SCALE PHOTOGRAPH
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image


def main(net: str, scale: int, file: str) -> None:
    """Prints the five likeliest classes."""
    session = onnxruntime.InferenceSession(net, providers=["CPUExecutionProvider"])
    image = Image.open(file).convert("RGB")
    ratio = scale / min(image.size)
    image = image.resize([round(side * ratio) for side in image.size], Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.float32)
    height, width = (side // 32 * 32 for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    whole = pixels[top : top + height, left : left + width]
    images = np.ascontiguousarray(np.stack([whole, whole[:, ::-1]]).transpose(0, 3, 1, 2))
    scores = session.run(None, {session.get_inputs()[0].name: images})[0].mean((2, 3))
    powers = np.exp(scores - scores.max(1, keepdims=True))
    posteriors = (powers / powers.sum(1, keepdims=True)).mean(0)
    for index in np.argsort(-posteriors)[:5]:
        print(index, f"{posteriors[index]:.6f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
