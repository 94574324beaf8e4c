"""The same blocks of transformers under torch.compile."""

from __future__ import annotations

import torch

from peers import torch_grouped


class Peer(torch_grouped.Peer):
    """Compiled anew for each number of tokens, in the check that comes before the timing."""

    rounding = "relaxed: what torch.compile fuses is not rounded in between"

    def prepare(self, case, weights) -> None:
        super().prepare(case, weights)
        # Past the limit, torch would go on without compiling, and say so in a log only.
        torch._dynamo.config.recompile_limit = 64
        torch._dynamo.config.fail_on_recompile_limit_hit = True
        self.block = torch.compile(self.block, dynamic=False)
