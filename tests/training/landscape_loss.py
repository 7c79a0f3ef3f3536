"""L_topo of Vietoris-Rips filtrations with landscapes, written out: gudhi's pairs, the rest in plain tensors."""

from __future__ import annotations

import gudhi
import torch


class LandscapeLoss:
    """Σ_h w_h Σ_k ∫ (λ_k^X - λ_k^Y)² dt of Vietoris-Rips filtrations, the mean over the clouds (the proposal, section 2.4).

    The integral is the trapezoid rule on 128 points in H0 and 1,024 in H1, from 0 to 1.25 times the latest death in the
    clouds of the calibration.
    """

    def __init__(self, weights, levels=None, scale_free=False):
        self.weights, self.levels, self.scale_free = weights, levels, scale_free

    def fit(self, clouds):
        seen = 2 if self.weights[1] else 1  # loops without a weight are not looked at, components always
        latest = max(bars[:, 1].max().item() for cloud in clouds for bars in self.bars(cloud)[:seen] if len(bars))
        self.grids = [(1.25 * latest * torch.linspace(0, 1, n, dtype=torch.float64)).to(clouds) for n in (128, 1024)]
        return self

    def bars(self, cloud):
        """Births and deaths in H0 and H1, each ``(p, 2)``: lengths of gudhi's critical edges, which carry the gradient."""
        distances = torch.cdist(cloud, cloud, compute_mode="donot_use_mm_for_euclid_dist")
        if self.scale_free:
            n = len(cloud)
            distances = distances / (distances.sum() / (n * (n - 1)))
        complex_ = gudhi.RipsComplex(distance_matrix=distances.detach().double().numpy())
        tree = complex_.create_simplex_tree(max_dimension=2)
        tree.compute_persistence()
        components, loops, *_ = tree.flag_persistence_generators()
        _, a, b = torch.as_tensor(components, dtype=torch.int64).view(-1, 3).T
        c, d, e, f = torch.as_tensor(loops[0] if loops else [], dtype=torch.int64).view(-1, 4).T
        merges = distances[a, b]
        return torch.stack([torch.zeros_like(merges), merges], 1), torch.stack([distances[c, d], distances[e, f]], 1)

    def landscape(self, bars, grid):
        """λ_k on the grid, ``(grid, levels)``, with zeros for levels that the bars do not reach."""
        tents = torch.minimum(grid[:, None] - bars[:, 0], bars[:, 1] - grid[:, None]).clamp(min=0)
        levels = tents.sort(1, descending=True).values[:, : self.levels]
        return torch.nn.functional.pad(levels, (0, 200 - levels.shape[1]))

    def __call__(self, references, clouds):
        total = 0.0
        for reference, cloud in zip(references, clouds, strict=True):
            for weight, grid, x, y in zip(self.weights, self.grids, self.bars(reference), self.bars(cloud), strict=True):
                squares = (self.landscape(x, grid) - self.landscape(y, grid)).square().sum(1)
                total = total + weight * ((squares[1:] + squares[:-1]) / 2 * grid.diff()).sum()
        return total / len(clouds)
