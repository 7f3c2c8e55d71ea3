"""ZCA against scikit-learn's PCA, its inverse, and its ridge."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from datastill.core.rng import fork
from datastill.ops.zca import Zca

SHAPE = (2, 3, 3)  # P = 18


def correlated(count: int = 200) -> Tensor:
    generator = fork(0, "correlated")
    mixing = torch.randn(18, 18, generator=generator)
    return (torch.randn(count, 18, generator=generator) @ mixing + 3).view(count, *SHAPE)


def test_zca__equals_rotated_pca_of_scikit_learn() -> None:
    x = correlated()
    flat = x.flatten(1).double().numpy()
    pca = PCA(whiten=True, svd_solver="full").fit(flat)
    scores = pca.transform(flat) * np.sqrt(len(x) / (len(x) - 1))  # ours divides by N
    expected = torch.from_numpy(scores @ pca.components_)
    assert torch.allclose(Zca.fit([x], 0.0)(x).flatten(1).double(), expected, atol=1e-3)


def test_zca__ridge_is_a_share_of_the_mean_eigenvalue() -> None:
    x = correlated()
    flat = x.flatten(1).double().numpy()
    covariance = np.cov(flat.T, bias=True)
    ridge = 0.1 * np.trace(covariance) / 18
    expected = torch.from_numpy(covariance + ridge * np.eye(18))
    matrix = Zca.fit([x], 0.1).matrix.double()
    assert torch.allclose(matrix @ expected @ matrix, torch.eye(18).double(), atol=1e-4)


def test_zca__blocks_do_not_matter() -> None:
    x = correlated()
    one, other = Zca.fit([x], 0.1), Zca.fit(torch.split(x, 7), 0.1)
    assert torch.allclose(one.matrix, other.matrix, atol=1e-6)
    assert torch.allclose(one.mean, other.mean, atol=1e-6)


def test_zca__inverse_undoes_it() -> None:
    x = correlated()
    zca = Zca.fit([x], 0.1)
    assert torch.allclose(zca.inverse(zca(x)), x, atol=1e-3)


def test_zca__constant_images_stay_finite() -> None:
    x = torch.ones(5, *SHAPE)
    assert Zca.fit([x], 0.1)(x).isfinite().all()


def test_zca__fingerprint_tells_fits_apart() -> None:
    x = correlated()
    one, same, other = (Zca.fit([x], ridge) for ridge in (0.1, 0.1, 0.2))
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_zca__unfit_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Zca(torch.zeros(3), torch.eye(4))
