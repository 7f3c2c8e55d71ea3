"""Classification: the network's own outputs are judged, and nothing more is trained.

This is how distilled sets of class labels are compared: train from scratch on the set, test on the
test split of the data that the set was distilled from (Zhao, Mopuri and Bilen, ICLR 2021).
"""

from dataclasses import dataclass
from typing import ClassVar

from datastill.maths.metrics import accuracy_percent
from datastill.transfer._base import AbstractTask, Measured, Start, TaskData
from datastill.transfer._labels import check_enough, labels_of


@dataclass(frozen=True)
class Classify(AbstractTask):
    """The largest of the K outputs is the answer, whether labels were hard or soft."""

    asks_outputs: ClassVar[bool] = True

    def check(self, data: TaskData) -> None:
        check_enough(data, ("all",))  # a class that nobody has seen cannot be an answer

    def measure(self, start: Start, data: TaskData) -> list[Measured]:
        outputs = data.test.outputs(start.network.eval(), start.machine)
        accuracy = accuracy_percent(outputs.cpu(), labels_of(data.test))
        return [Measured("", accuracy, None, 0)]
