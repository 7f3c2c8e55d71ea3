"""k-NN probe: a vote of the nearest labelled images by cosine (Wu et al., CVPR 2018)."""

import math
from dataclasses import dataclass

from datastill.core.options import option
from datastill.ops.knn import knn_predict
from datastill.ops.metrics import accuracy_percent
from datastill.transfer._probe import FeatureProbe, Features


@dataclass(frozen=True)
class KnnProbe(FeatureProbe):
    """Classify test images by their nearest labelled images; nothing is trained.

    Each of the k nearest features by cosine votes for its class with weight exp(cosine / T) (Wu et
    al., CVPR 2018). Where there are fewer labelled images than k, all of them vote.

    Args:
        features: "body": features below the head; "output": outputs of the head.
        labels: Which training images keep their labels; one result for each entry.
        draws: Draws of the labelled images, whose accuracies are averaged.
        k: Neighbours that vote.
        temperature: T; the smaller, the more the nearest ones count; None: all count the same.

    Raises:
        ConfigError: An option is outside its range.

    Example:
        >>> import datastill as ds
        >>> network = ds.ConvNet(widths=(8,))(image_size=16, channels=1, outputs=5)
        >>> (result,) = ds.KnnProbe(k=5).run(network, "digits")
        >>> result.setting
        'all, body'
    """

    k: int = option(20, "neighbours that vote", at_least=1)
    temperature: float | None = option(
        0.07, "T; the smaller, the more the nearest ones count; null: all count the same", above=0
    )

    def accuracy(self, train: Features, test: Features, seed: int) -> float:
        votes = knn_predict(
            train.values,
            train.labels.to(train.values.device),
            test.values,
            k=min(self.k, len(train.values)),
            temperature=self.temperature or math.inf,
            num_classes=train.num_classes,
        )
        return accuracy_percent(votes.cpu(), test.labels)

    def updates(self) -> int:
        return 0
