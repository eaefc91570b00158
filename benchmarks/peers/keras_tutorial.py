"""The way of Keras's guide "Transfer learning & fine-tuning", by TensorFlow.

VGG16 without its top, pooling, dropout, one dense layer: twice as many updates with the convolutions frozen, by Adam at
1e-3, as with the upper block free, at 1e-5. Batches of 32; mirror, rotation and zoom as in the guide and in its
author's book.
"""

import os
import time
from pathlib import Path
from typing import Any

from benchmarks.peers.task import SAFETY, answer, begin, fastest, has_bf16, seconds_of

BATCH = 32
WARM_UP = 2
"""Updates that are timed, after a first one."""


def main() -> None:
    task = begin()
    os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    os.environ |= {"TF_NUM_INTRAOP_THREADS": str(task.cores), "TF_NUM_INTEROP_THREADS": "2"}
    import keras

    keras.utils.set_random_seed(task.seed)
    side = (task.size, task.size)
    layers = keras.layers
    augment = keras.Sequential(
        [layers.RandomFlip("horizontal"), layers.RandomRotation(0.1), layers.RandomZoom(0.2)],
    )

    def images(split: str, **options: Any) -> Any:  # noqa: ANN401 - a data set of TensorFlow
        return keras.utils.image_dataset_from_directory(
            Path(task.data, split),
            image_size=side,
            batch_size=BATCH,
            class_names=task.classes,
            verbose=False,
            **options,
        )

    train = images("train", seed=task.seed).repeat().map(lambda x, y: (augment(x, training=True), y)).prefetch(2)

    def build(policy: str) -> tuple[Any, Any]:
        keras.mixed_precision.set_global_policy(policy)
        base = keras.applications.VGG16(weights=None, include_top=False, input_shape=(*side, 3))
        base.load_weights(task.weights)
        base.trainable = False
        inputs = keras.Input((*side, 3))
        x = base(keras.applications.vgg16.preprocess_input(inputs), training=False)
        x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
        return base, keras.Model(inputs, layers.Dense(len(task.classes), dtype="float32")(x))

    def compiled(model: Any, rate: float, jit: bool) -> Any:  # noqa: ANN401
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"], jit_compile=jit)
        return model

    def fit(model: Any, updates: int) -> None:  # noqa: ANN401
        model.fit(train, steps_per_epoch=updates, verbose=0)

    def warm_up(policy: str, jit: bool, free: bool) -> tuple[float, float]:
        """Seconds of an update, and those that the first takes longer."""
        base, model = build(policy)
        if free:
            unfreeze(base)
        compiled(model, 1e-5, jit)
        first = seconds_of(lambda: fit(model, 1))
        update = seconds_of(lambda: fit(model, WARM_UP)) / WARM_UP
        return update, max(0.0, first - update)

    policies = ("float32", "mixed_bfloat16") if has_bf16() else ("float32",)
    ways = {f"{policy}{', jit' if jit else ''}": (policy, jit) for policy in policies for jit in (False, True)}
    chosen = fastest(ways, lambda way: warm_up(*way, free=False)[0])
    policy, jit = ways[chosen]
    frozen, first_frozen = warm_up(policy, jit, free=False)
    tuned, first_tuned = warm_up(policy, jit, free=True)
    share = (task.seconds - first_frozen - first_tuned) / SAFETY / (2 * frozen + tuned)

    base, model = build(policy)
    begun = time.perf_counter()
    fit(compiled(model, 1e-3, jit), num_frozen := max(1, int(2 * share)))
    unfreeze(base)
    fit(compiled(model, 1e-5, jit), num_tuned := max(1, int(share)))
    seconds = time.perf_counter() - begun

    test = images("test", shuffle=False)
    scores = model.predict(test, verbose=0)
    labels = [int(label) for _, batch in test for label in batch]
    passes = [
        f"{updates} updates ({updates * BATCH / task.num_images:.2g} epochs)" for updates in (num_frozen, num_tuned)
    ]
    remark = f"{task.size}x{task.size}, {chosen}; {passes[0]} frozen, {passes[1]} with conv5 free"
    answer(scores.argmax(1).tolist(), labels, training_seconds=seconds, remark=remark)


def unfreeze(base: Any) -> None:  # noqa: ANN401
    """Lets the upper block learn."""
    base.trainable = True
    for layer in base.layers:
        layer.trainable = layer.name.startswith("block5")


if __name__ == "__main__":
    main()
