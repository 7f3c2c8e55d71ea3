"""The teacher of data-free distillation: a supervised classifier, trained once and saved."""

import hashlib
import json
import time
from dataclasses import dataclass, replace
from typing import Any

from datastill.core import checkpoint
from datastill.core.locks import file_lock
from datastill.core.lookup import public_name
from datastill.core.options import to_json
from datastill.core.progress import logger
from datastill.core.rng import seeded
from datastill.networks.architecture import Architecture, Network
from datastill.ops.metrics import accuracy_percent
from datastill.transfer._labels import labels_of
from datastill.transfer._supervised import Supervised, new_classifier
from datastill.transfer.task import TaskContext, TaskData


@dataclass(frozen=True)
class Teacher:
    """The architecture of the teacher and its training on the labelled target data."""

    architecture: Architecture
    training: Supervised
    seed: int

    def make(self, context: TaskContext, data: TaskData) -> Network:
        """Train the teacher, or load it, and return it in evaluation mode.

        With a folder in `context` it is trained once for each data set, architecture, seed and
        settings: later calls load its file, and an interrupted training continues.
        """
        with seeded(self.seed, "teacher", data.name):
            network = context.machine.to_device(new_classifier(self.architecture, data))
        if context.folder is None:
            return self._train(network, replace(context, saving=None), data)
        identity = self._identity(context, data)
        name = f"teacher-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]}"
        file = context.folder.path / f"{name}.safetensors"
        with file_lock(file.with_name(f".{name}.lock"), f"{name} of {data.name}"):
            saving = context.folder.saving(name, identity)
            if file.exists():
                checkpoint.read(file, network, identity)
            else:
                start_time = time.monotonic()
                self._train(network, replace(context, saving=saving), data)
                accuracy = _log_accuracy(network, context, data)
                seconds = round(time.monotonic() - start_time, 3)
                row = {"teacher": name, "data": data.name, "accuracy_percent": accuracy}
                context.folder.append("teachers.jsonl", {**row, "wall_seconds": seconds})
                checkpoint.write(file, network, identity)
            saving.clear()
        return network.eval()

    def _train(self, network: Network, context: TaskContext, data: TaskData) -> Network:
        logger.info(f"training a {public_name(self.architecture)} teacher on {data.name}")
        context = replace(context, seed=self.seed)  # one teacher for the students of all seeds
        return self.training.train(
            network, data.train, context=context, name="teacher", data=data.name
        )

    def _identity(self, context: TaskContext, data: TaskData) -> dict[str, Any]:
        zca = data.train.normalizer.zca
        return {
            "data": {"name": data.name, "fingerprint": data.train.fingerprint},
            "whitening": zca and zca.fingerprint,
            "architecture": {"name": public_name(self.architecture), **to_json(self.architecture)},
            "training": to_json(self.training),
            "seed": self.seed,
            "precision": context.machine.precision,
        }


def _log_accuracy(network: Network, context: TaskContext, data: TaskData) -> float:
    logits = data.test.predict(network, context.machine)
    accuracy = accuracy_percent(logits.cpu(), labels_of(data.test))
    logger.info(f"the teacher's test accuracy on {data.name} is {accuracy:.1f} %")
    return accuracy
