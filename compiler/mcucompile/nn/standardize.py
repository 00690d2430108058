"""Input standardisation that training needs and inference does not: it folds into the next layer."""

import torch
from torch import Tensor, nn


class Standardize(nn.Module):
    """y = (x - mean) / deviation, with constants measured on the training data.

    Args:
        mean, deviation: (features,) for one value per feature, or () for one for all; a feature that
            never varies (deviation 0) becomes 0 and takes no part.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        varies = deviation > 0
        self.register_buffer("mean", mean.float())
        self.register_buffer("scale", torch.where(varies, 1 / torch.where(varies, deviation, 1), 0).float())

    @classmethod
    def fitted(cls, inputs: Tensor, *, per_feature: bool) -> "Standardize":
        """Measure mean and deviation of inputs (n, features), for each feature or for all together."""
        dim = 0 if per_feature else None
        real = inputs.double()
        return cls(real.mean(dim), real.std(dim, correction=0))

    def forward(self, x: Tensor) -> Tensor:
        """Return the standardised x (n, features)."""
        return (x - self.mean) * self.scale


def fold_standardize(standardize: Standardize, linear: nn.Linear) -> nn.Linear:
    """Return the layer that computes on raw inputs what `linear` computes on standardised ones.

    W' = W * scale and b' = b - W' mean, in double precision before the one rounding to float32.
    """
    scale = standardize.scale.double()
    weight = linear.weight.detach().double() * scale
    bias = torch.zeros(linear.out_features) if linear.bias is None else linear.bias.detach()
    folded = nn.Linear(linear.in_features, linear.out_features)
    with torch.no_grad():
        folded.weight.copy_(weight)
        folded.bias.copy_(bias.double() - (weight * standardize.mean.double()).sum(1))
    return folded.eval()
