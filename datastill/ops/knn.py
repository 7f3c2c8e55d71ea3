"""Classification by the nearest neighbours in cosine similarity (Wu et al., CVPR 2018)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from datastill.core.errors import DataError

BLOCK = 512  # rows classified at a time: memory holds N · 512 similarities, not N · B


@torch.no_grad()
def knn_predict(
    train_features: Tensor,
    train_labels: Tensor,
    features: Tensor,
    *,
    k: int,
    temperature: float,
    num_classes: int,
) -> Tensor:
    """Classify rows by a weighted vote of their k nearest training rows.

    Each of the k rows of largest cosine s votes for its class with weight exp(s / temperature).
    The cosine of a row of length zero is zero.

    Args:
        train_features: (N, F) features of labelled images.
        train_labels: (N,) int64 in [0, num_classes).
        features: (B, F) features to classify.
        k: Number of neighbours, 1 to N.
        temperature: Positive; with `math.inf` all neighbours count the same.
        num_classes: Number of classes (K).

    Returns:
        (B, K) shares of the vote; the largest one of a row is its prediction.

    Raises:
        DataError: Shapes do not fit, k is not in 1..N, or the temperature is not positive.

    Example:
        >>> train = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
        >>> labels = torch.tensor([0, 0, 1])
        >>> query = torch.tensor([[2.0, 0.1], [0.1, 3.0]])
        >>> votes = knn_predict(train, labels, query, k=1, temperature=0.1, num_classes=2)
        >>> votes.argmax(1)
        tensor([0, 1])
    """
    fits = train_features.shape[1:] == features.shape[1:] and features.dim() == 2
    if not fits or train_labels.shape != train_features.shape[:1] or len(features) == 0:
        raise DataError(
            "k-NN takes features (N, F), labels (N,) and features (B, F), B > 0; got"
            f" {tuple(train_features.shape)}, {tuple(train_labels.shape)}, {tuple(features.shape)}"
        )
    if not 1 <= k <= len(train_features) or not temperature > 0:
        raise DataError(
            f"k={k} neighbours of {len(train_features)} at temperature {temperature};"
            " k must be in 1..N and the temperature positive"
        )
    train = F.normalize(train_features)  # (N, F)
    one_hot = F.one_hot(train_labels, num_classes).to(train)
    votes = []
    for block in torch.split(F.normalize(features), BLOCK):
        nearest = (block @ train.T).topk(k)  # (b, k)
        weights = torch.softmax(nearest.values / temperature, dim=1)
        votes.append(torch.einsum("bk,bkc->bc", weights, one_hot[nearest.indices]))
    return torch.cat(votes)
