"""Classification by the network's own outputs; nothing more is trained.

This is how distilled sets of class labels are compared: train from scratch on the set, test on the
test split of the data that the set was distilled from (Zhao, Mopuri and Bilen, ICLR 2021).
"""

from dataclasses import dataclass
from typing import ClassVar

from datastill.ops.metrics import accuracy_percent
from datastill.transfer._labels import check_enough, labels_of
from datastill.transfer.task import Task, TaskContext, TaskData, TaskResult


@dataclass(frozen=True)
class Classify(Task):
    """Report the test accuracy of the network's own outputs: the largest of the K is predicted.

    For networks trained on class labels, hard or soft, of the same classes.
    """

    evaluates_outputs: ClassVar[bool] = True

    def check(self, data: TaskData) -> None:
        check_enough(data, ("all",))  # every class needs at least one training image

    def measure(self, context: TaskContext, data: TaskData) -> list[TaskResult]:
        outputs = data.test.predict(context.network.eval(), context.machine)
        accuracy = accuracy_percent(outputs.cpu(), labels_of(data.test))
        return [TaskResult("", accuracy, None, 0)]
