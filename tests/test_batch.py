"""Batches of tokens: what is left of a text when some of its tokens are left out."""

import numpy as np
import torch

from sklopa._batch import TokenBatch, Tokens


def test_thinned_texts_keep_their_order_their_first_token_and_their_slot():
    rows = [np.arange(100 * i + 1, 100 * i + n + 1) for i, n in enumerate((12, 5, 1))]
    batch = TokenBatch.collate([Tokens(ids, types=ids % 7, slot=len(ids) // 2) for ids in rows])
    thin = batch.thinned(0.5, torch.Generator().manual_seed(0))
    assert thin.mask.sum() < batch.mask.sum()
    assert thin.ids.shape[1] == thin.mask.sum(dim=1).max()
    for i, row in enumerate(rows):
        left = thin.ids[i][thin.mask[i] > 0]
        assert torch.equal(left, left.unique())  # still ascending, none twice
        assert set(left.tolist()) <= set(row.tolist())
        assert left[0] == row[0]
        assert thin.ids[i, thin.slot[i]] == row[len(row) // 2]
        assert torch.equal(thin.types[i, : len(left)], left % 7)


def test_share_of_tokens_left_out():
    batch = TokenBatch.collate([Tokens(np.arange(1000))] * 8)
    thin = batch.thinned(0.1, torch.Generator().manual_seed(0))
    assert 0.88 < thin.mask.sum() / batch.mask.sum() < 0.92
    same = batch.thinned(0.0, torch.Generator())
    assert torch.equal(same.ids, batch.ids)
    assert torch.equal(same.slot, batch.slot)
