"""How different the rows of a matrix are, from the eigenvalues of their correlations."""

from __future__ import annotations

import torch
from torch import Tensor

SMALL = 1e-5


def score_spectrum(rows: Tensor) -> float:
    """``-sum(log(v + k) + 1 / (v + k))`` over eigenvalues ``v`` of the rows' correlation matrix.

    Largest when no two rows are correlated (Mellor et al. 2021, first version, section 3), where
    it is ``-n`` up to ``k = 1e-5``.

    Args:
        rows: ``(n, features)``, one for each sample; a constant row correlates with none.
    """
    x = rows.detach().double()
    x = x - x.mean(1, keepdim=True)
    norms = x.norm(dim=1, keepdim=True)
    x = x / norms.clamp(min=1e-300)
    correlation = (x @ x.T).nan_to_num(0.0)
    correlation.fill_diagonal_(1.0)
    # Symmetric, hence real; rounding may leave a zero slightly negative.
    values = torch.linalg.eigvalsh(correlation).clamp(min=0) + SMALL
    return float(-(values.log() + 1 / values).sum())
