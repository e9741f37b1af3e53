"""Tests of `polysync.protocol.loss`."""

from __future__ import annotations

from polysync.protocol.loss import Loss


def test_a_loss_of_which_nothing_is_known_may_be_tried_again():
    loss = Loss()
    assert loss.retryable
    assert not loss.opened
    assert (loss.status, loss.close_code, loss.retry_after) == (None, None, None)
