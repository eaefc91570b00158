"""The definition of a net in Caffe's text format, which a .caffemodel does not have and OpenCV wants."""

from pathlib import Path
from typing import Final

from verydeep.convnets.foreign.caffe import CaffeLayer, read_layers

_SETTINGS: Final = {
    "Pooling": "pooling_param { pool: MAX kernel_size: 2 stride: 2 }",
    "Scale": "scale_param { bias_term: true }",
    "ReLU": "",
}


def definition(file: Path, crop: int) -> str:
    """Writes the definition of a net that ``caffe.read`` takes, up to its last layer with weights or pooling.

    Args:
        file: the .caffemodel.
        crop: side of the images, pixels.
    """
    lines = ['name: "VGG"', 'input: "data"', f"input_shape {{ dim: 1 dim: 3 dim: {crop} dim: {crop} }}"]
    bottom = "data"
    for number, layer in enumerate(read_layers(file)):
        settings = _settings(layer, file)
        if settings is None:
            continue
        top = f"after {number}"
        name = layer.name.replace('"', "'")  # one with a quotation mark has no twin in the file, and is found out
        lines.append(f'layer {{ bottom: "{bottom}" top: "{top}" name: "{name}" type: "{layer.type}" {settings} }}')
        bottom = top
    return "\n".join(lines) + "\n"


def _settings(layer: CaffeLayer, file: Path) -> str | None:
    """The settings of a layer; None for a layer without effect on the scores."""
    if layer.type == "BatchNorm":
        return f"batch_norm_param {{ eps: {layer.epsilon()} }}"
    if layer.type in _SETTINGS:
        return _SETTINGS[layer.type]
    if layer.type not in ("Convolution", "InnerProduct"):
        return None
    weight, *bias = layer.weights(file)
    has_bias = "true" if bias else "false"
    if layer.type == "InnerProduct":
        return f"inner_product_param {{ num_output: {weight.shape[-2]} bias_term: {has_bias} }}"
    kernel, out = weight.shape[-1], weight.shape[0]
    padding = layer.padding()
    padding = kernel // 2 if padding is None else padding
    return f"convolution_param {{ num_output: {out} pad: {padding} kernel_size: {kernel} bias_term: {has_bias} }}"
