"""Weights as public files have them: what is read and how, and what is refused with which remedy.

The rows are those of the table of docs/weights.md; those of ``REFUSED`` drive their test, too.
"""

NAMES = {
    "features.0, module.features.0, vgg.features.0": "torchvision's and timm's names, under any prefix",
    "bare numbers": "`0.weight`: a container of the convolutions alone, or fastai's body",
    "features_0": "likewise",
    "features.0.conv": "blocks of a convolution and its batch norm, a number for each pooling",
    "conv1_1": "Caffe's names, over BGR with Caffe's mean: a guess; with `mean` and `divisor`, a net of ours",
    "conv_1_1, block1_conv1": "likewise",
}
CHECKPOINTS = {
    "settings beside the weights": "plain values, `argparse.Namespace`, numpy's numbers, paths; nothing is run",
    "objects beside them, as fastai keeps": "passed over and named; what asks to be called is refused",
    "averaged weights (EMA)": "taken, and said; `--last-weights` takes the others",
    "a module pickled whole": "its tensors are taken, as `torch.save(model)` and Ultralytics keep them; nothing is run",
    "params, network, a list": "the state dict in it is found",
    "criterion.weight, metrics": "passed over by name, and said",
    "class_to_idx, classes, label names": "become the names of the classes, where there are as many scores",
}
INPUTS = {
    "a file that `weights export` wrote": "its numbers come back, for torchvision, timm and Keras alike",
    "`to_torchvision(net)`, its state dict or its ONNX": "likewise, by two buffers of its first convolution",
    "config.json or preprocessor_config.json beside it": "mean, deviation and names of timm and of the hub are read",
    "mean and std in the file": "taken, of pixels in 0..1 or 0..255",
    "a published file": "known by its hash",
    "2,622 scores": "VGG-Face's mean: a guess",
    "none of these": "the usual input of its program: a guess, which `--verify` calls one too",
}
HEADS = {
    "one linear layer, or three, the first two of one width": "read with their scores, whatever they are called",
    "two layers, other heads": "left out by their own names: convolutions only",
    "a net cut at relu4_3": "refused: import the whole net, and take its activations",
}
KERAS = {
    "preprocess_input, Rescaling": "become mean, divisor and order of channels",
    "augmentation inside": "does nothing outside of a training: read without it",
    "batch norm between convolutions": "refused: export the model to ONNX, and import that",
    "Theano's order of kernels": "refused: take the file for TensorFlow",
}
TABLE = {"names": NAMES, "checkpoints": CHECKPOINTS, "input": INPUTS, "heads": HEADS, "Keras": KERAS}

REFUSED = {
    "web page": ("a web page", "download it in a browser"),
    "git-lfs pointer": ("git-lfs", "git lfs pull"),
    "JSON": ("JSON", "give the file of the weights"),
    ".npz": ("an .npz of NumPy", "save a state dict"),
    ".npy": ("an array of NumPy", "state dict"),
    ".pt2": ("torch.export (.pt2)", "torch.export.load"),
    "zip archive": ("a zip archive without weights", "unpack it"),
    "cut download": ("a zip archive cut short", "download it again"),
    "tar archive": ("a tar archive", "unpack it"),
    "gzip archive": ("compressed (gzip)", "unpack it"),
    "TensorFlow Lite": ("TensorFlow Lite", "import the .keras or .h5"),
}
"""What each is called in its message, and its remedy there."""
