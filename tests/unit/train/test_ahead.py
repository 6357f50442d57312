import threading

import pytest
import torch

from dpe_ray.train.ahead import Rollouts


def test_without_ahead_every_step_is_rolled_out_when_asked_for():
    asked = []
    with Rollouts(lambda *call: asked.append(call) or list(call), steps=3, ahead=0) as rollouts:
        for step in range(3):
            assert rollouts.take(step, 10 + step) == [step, 10 + step]
            rollouts.begin(step + 1, 10 + step)
            rollouts.settle()
            assert len(asked) == step + 1


def test_ahead_the_next_step_comes_from_the_policy_before_the_update_and_none_behind_the_end():
    asked = []
    with Rollouts(lambda *call: asked.append(call) or list(call), steps=3, ahead=1) as rollouts:
        taken = []
        for step in range(3):
            taken.append(rollouts.take(step, step))
            rollouts.begin(step + 1, step)
            rollouts.settle()
    assert taken == [[0, 0], [1, 0], [2, 1]]
    assert len(asked) == 3


def test_rollouts_run_beside_the_update_and_settle_waits_for_them():
    updating, done = threading.Event(), []

    def roll_out(step, version):
        if step:
            assert updating.wait(5)
            done.append(step)
        return []

    with Rollouts(roll_out, steps=2, ahead=1) as rollouts:
        rollouts.take(0, 0)
        rollouts.begin(1, 0)
        assert done == []
        updating.set()
        rollouts.settle()
        assert done == [1]


def test_what_breaks_ahead_is_raised_by_the_step_that_needs_it():
    def roll_out(step, version):
        if step == 1:
            raise RuntimeError("no replica")
        return []

    with Rollouts(roll_out, steps=3, ahead=1) as rollouts:
        rollouts.take(0, 0)
        rollouts.begin(1, 0)
        rollouts.settle()
        with pytest.raises(RuntimeError, match="no replica"):
            rollouts.take(1, 1)


def test_a_step_that_was_not_begun_is_rolled_out_anew():
    with Rollouts(lambda *call: list(call), steps=9, ahead=1) as rollouts:
        rollouts.begin(3, 2)
        assert rollouts.take(4, 7) == [4, 7]


def test_rollouts_run_on_the_gpu_of_their_worker_also_beside_the_update(monkeypatch):
    current = threading.local()  # as CUDA has it: every thread begins at GPU 0

    def begin_on(device):
        current.device = device

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", begin_on)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: getattr(current, "device", 0))
    torch.cuda.set_device(3)
    threads = []

    def roll_out(step, version):
        threads.append(threading.get_ident())
        return [torch.cuda.current_device()]

    with Rollouts(roll_out, steps=2, ahead=1) as rollouts:
        devices = rollouts.take(0, 0)
        rollouts.begin(1, 0)
        devices += rollouts.take(1, 0)
    assert devices == [3, 3]
    assert len(set(threads)) == 2
