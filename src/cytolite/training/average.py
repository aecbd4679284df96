"""The running average of a network's weights, which is what is validated and exported."""

from __future__ import annotations

import copy

import torch
from torch import nn

from cytolite.networks.network import NucleusNetwork


class Average(nn.Module):
    """Exponential moving average of a network; a frozen encoder is shared with it, not copied.

    The memory grows with the steps done, so that the random start is forgotten.

    Parameters
    ----------
    network : NucleusNetwork
        That is trained.
    decay : float
        Share of the average that a step keeps, in the long run.
    """

    n_averaged: torch.Tensor

    def __init__(self, network: NucleusNetwork, decay: float) -> None:
        super().__init__()
        shared = {id(network.encoder): network.encoder} if network.frozen else {}
        self.module = copy.deepcopy(network, shared)
        self.module.requires_grad_(False)
        self.decay = decay
        self.register_buffer("n_averaged", torch.tensor(0))

    @torch.no_grad()
    def update_parameters(self, network: NucleusNetwork) -> None:
        """Take up the network's weights and buffers as they are now."""
        n = int(self.n_averaged)
        keep = min(self.decay, (1 + n) / (10 + n)) if n else 0.0
        for averaged, new in zip(self.module.state_dict().values(), network.state_dict().values(), strict=True):
            if averaged.data_ptr() == new.data_ptr():
                continue
            if averaged.is_floating_point():
                averaged.copy_(averaged * keep + new * (1 - keep))
            else:
                averaged.copy_(new)
        self.n_averaged += 1
