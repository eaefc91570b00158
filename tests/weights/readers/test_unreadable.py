"""Files that are no weights, or none that are read: one line says what each is, and the remedy."""

import gzip
import io
import os
import tarfile
import zipfile

import numpy as np
import pytest
import torch

from peer_nets import torchvision_net
from public_files import REFUSED
from verydeep.errors import UserError
from verydeep.weights.readers import read_weights


def zipped(**members):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, part in members.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), part)
    return content.getvalue()


def npz():
    content = io.BytesIO()
    np.savez(content, conv1_1_W=np.zeros((3, 3)), conv1_1_b=np.zeros(3))
    return content.getvalue()


def tar():
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"))
    return content.getvalue()


def cut_torch():
    content = io.BytesIO()
    torch.save(torchvision_net("A", num_classes=2).state_dict(), content)
    return content.getvalue()[:100_000]


def npy():
    content = io.BytesIO()
    np.save(content, np.zeros(3))
    return content.getvalue()


FILES = {
    "web page": [
        b"<!DOCTYPE html><html>...",
        b"\xef\xbb\xbf\n<html lang=en>",
        b'<?xml version="1.0"?><Error><Code>Denied',
    ],
    "git-lfs pointer": [b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a"],
    "JSON": [b'{"error": "Repository not found"}'],
    ".npz": [npz()],
    ".npy": [npy()],
    ".pt2": [zipped(archive_format=b"pt2", models__model_dot_json=b"{}")],
    "zip archive": [zipped(weights_dot_pth=b"x")],
    "cut download": [cut_torch()],
    "tar archive": [tar()],
    "gzip archive": [gzip.compress(b"weights")],
    "TensorFlow Lite": [b"\x1c\x00\x00\x00TFL3" + bytes(99)],
}


def test_every_row_has_a_file():
    assert FILES.keys() == REFUSED.keys()


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_of_another_kind_is_named_with_the_remedy(kind, ending, tmp_path):
    for content in FILES[kind]:
        (tmp_path / f"a{ending}").write_bytes(content)
        with pytest.raises(UserError) as told:
            read_weights(tmp_path / f"a{ending}")
        assert all(words in str(told.value) for words in REFUSED[kind])
        assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["pipe.pth", "pipe.h5", "device.onnx"])
def test_a_pipe_or_a_device_is_refused_and_not_waited_for(name, tmp_path):
    if name.startswith("pipe"):
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(UserError, match=f"{name} is no file: give a file of weights"):
        read_weights(tmp_path / name)
    os.mkfifo(tmp_path / "config.json")  # beside weights, and not waited for
    torch.save(torchvision_net("A", num_classes=2).state_dict(), tmp_path / "a.pth")
    assert read_weights(tmp_path / "a.pth").is_guessed


def test_what_is_not_known_lists_what_is_read(tmp_path):
    (tmp_path / "a.pth").write_bytes(bytes(range(256)))
    with pytest.raises(UserError, match=r"no file of weights that can be read\. These are: safetensors"):
        read_weights(tmp_path / "a.pth")


@pytest.mark.parametrize("ending", [".pth", ".h5", ".onnx"])
def test_predict_of_another_programs_weights_points_to_import(verydeep, ending, tmp_path):
    (tmp_path / f"a{ending}").write_bytes(b"\x80\x02}q\x00.")
    status, _, error = verydeep("predict", tmp_path / f"a{ending}", tmp_path / "photo.jpg")
    assert (status, error.count("\n")) == (1, 1)
    assert f"verydeep weights import {tmp_path / f'a{ending}'} --out {tmp_path / 'a.safetensors'}" in error
