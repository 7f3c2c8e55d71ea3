"""Fine-tuning: the whole network with a new head (the main protocol of KRR-ST, section 5)."""

from dataclasses import dataclass, replace

from datastill.augment.crop_flip import CropFlip
from datastill.core.options import option
from datastill.images import ImageSet
from datastill.networks.architecture import Network
from datastill.ops.metrics import accuracy_percent
from datastill.ops.optimizers import Sgd
from datastill.transfer._labels import check_enough, check_labels, choose_labelled, labels_of
from datastill.transfer._supervised import Supervised, with_new_head
from datastill.transfer.task import Task, TaskContext, TaskData, TaskResult

LONG = ("cifar10", "cifar100", "tiny-imagenet")  # the paper fine-tunes on these for longer
LONG_STEPS, STEPS = 10_000, 5_000


@dataclass(frozen=True)
class Finetune(Task):
    """Fine-tune the whole network with a new head, and report its test accuracy.

    SGD with a cosine schedule on cropped and flipped images; the network after the last step is
    tested. This is the main protocol of KRR-ST (Lee et al., ICLR 2024, section 5).

    Args:
        steps: Updates. Default: the paper's, 10,000 for CIFAR-10, CIFAR-100 and Tiny ImageNet, and
            5,000 for all other data.
        batch: Images per update.
        lr: SGD learning rate at the start.
        momentum: SGD momentum.
        weight_decay: SGD weight decay.
        crop_padding: Random crops after zero padding by this number of pixels; 0: none.
        flip: Whether images are flipped at random.
        labels: Which training images keep their labels; one result for each entry.

    Raises:
        ConfigError: An option is outside its range.

    Example:
        >>> import datastill as ds
        >>> network = ds.ConvNet(widths=(8,))(image_size=16, channels=1, outputs=5)
        >>> (result,) = ds.Finetune(steps=2, labels=("5-per-class",)).run(network, "digits")
        >>> result.setting, result.steps
        ('5-per-class', 2)
    """

    steps: int | None = option(
        None,
        "updates; default: the paper's, 10,000 for CIFAR-10, CIFAR-100 and Tiny ImageNet, 5,000"
        " for all other data",
        at_least=1,
        smoke=2,
    )
    batch: int = option(256, "images per update", at_least=1, smoke=8)
    lr: float = option(0.01, "SGD learning rate", above=0)
    momentum: float = option(0.9, "SGD momentum", at_least=0, below=1)
    weight_decay: float = option(5e-4, "SGD weight decay", at_least=0)
    crop_padding: int = option(4, "random crops after this zero padding; 0: none", at_least=0)
    flip: bool = option(True, "random horizontal flips")
    labels: tuple[str, ...] = option(
        ("all",), "labelled images: all, 10%, or 5-per-class", smoke=("all",)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_labels(self.labels)

    def check(self, data: TaskData) -> None:
        check_enough(data, self.labels)

    def measure(self, context: TaskContext, data: TaskData) -> list[TaskResult]:
        results = []
        for labels in self.labels:
            train = choose_labelled(data, labels, context.seed)
            saving = context.saving and context.saving.for_part(labels)
            network = self._train(replace(context, saving=saving), train, data)
            logits = data.test.predict(network, context.machine)
            accuracy = accuracy_percent(logits.cpu(), labels_of(data.test))
            setting = "" if labels == "all" else labels
            results.append(TaskResult(setting, accuracy, None, self.length(data.name)))
        return results

    def length(self, data: str) -> int:
        """Return the number of updates on the data set of this name."""
        return self.steps or (LONG_STEPS if data in LONG else STEPS)

    def _train(self, context: TaskContext, train: ImageSet, data: TaskData) -> Network:
        training = Supervised(
            self.length(data.name),
            self.batch,
            Sgd(self.lr, self.momentum, self.weight_decay),
            CropFlip(self.crop_padding, self.flip),
        )
        network = with_new_head(context, data)
        return training.train(network, train, context=context, name="fine-tuning", data=data.name)
