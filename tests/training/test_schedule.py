import itertools

import pytest

from maekit.errors import ConfigError
from maekit.training.schedule import (
    Schedule,
    ScheduleConfig,
    learning_rate,
    plan_schedule,
    weight_decay,
)


def rates(config, steps=100, per_epoch=10, peak=1.0):
    schedule = plan_schedule(config, peak, 0.05, steps, per_epoch)
    return [learning_rate(schedule, step) for step in range(steps)]


@pytest.mark.parametrize(
    ("name", "peak", "low", "warmup", "epochs"),
    [
        ("pretrain_lr2.4e-3_min0_warm40_ep800", 2.4e-3, 0.0, 40, 800),
        ("finetune_lr2e-3_min1e-6_warm5_ep100", 2e-3, 1e-6, 5, 100),
    ],
)
def test_cosine__equals_the_reference(golden_rates, name, peak, low, warmup, epochs):
    schedule = Schedule(
        kind="cosine", peak_lr=peak, min_lr=low, num_steps=epochs, warmup_steps=warmup
    )
    for epoch, expected in golden_rates[name]:
        assert learning_rate(schedule, epoch) == pytest.approx(expected, rel=1e-12, abs=1e-18)


def test_restarts__saw_tooth_with_falling_peaks():
    found = rates(
        ScheduleConfig(
            kind="restarts", warmup_steps=0, restart_epochs=2, restart_growth=2, restart_decay=0.5
        )
    )
    assert found[0] == 1.0
    assert found[19] < 0.01
    assert found[20] == 0.5  # after 2 epochs
    assert found[60] == 0.25  # after 4 more
    assert all(later <= earlier for earlier, later in itertools.pairwise(found[20:60]))


def test_stable__constant_then_linear():
    found = rates(ScheduleConfig(kind="stable", warmup_epochs=1, decay_ratio=0.2))
    assert found[5] == 0.5
    assert set(found[10:80]) == {1.0}
    assert found[90] == pytest.approx(0.5)


def test_weight_decay__constant_or_cosine():
    constant = plan_schedule(ScheduleConfig(), 1.0, 0.05, 100, 10)
    assert weight_decay(constant, 70) == pytest.approx(0.05)
    moving = plan_schedule(ScheduleConfig(weight_decay_end=0.2), 1.0, 0.05, 100, 10)
    assert [weight_decay(moving, step) for step in (0, 50, 100)] == pytest.approx(
        [0.05, 0.125, 0.2]
    )


@pytest.mark.parametrize(
    ("config", "steps"),
    [
        ({"warmup_ratio": 0.2}, 20),
        ({"warmup_epochs": 1.5}, 15),
        ({"warmup_steps": 7}, 7),
        ({}, 5),
        ({"warmup_ratio": 0.0}, 0),
    ],
)
def test_plan__warm_up_in_three_units(config, steps):
    assert plan_schedule(ScheduleConfig(**config), 1.0, 0.05, 100, 10).warmup_steps == steps


def test_plan__warm_up_longer_than_the_run():
    with pytest.raises(
        ConfigError, match=r"warm-up of 400 steps is longer than the run of 100 steps \(10 epochs\)"
    ):
        plan_schedule(ScheduleConfig(warmup_epochs=40), 1.0, 0.05, 100, 10)
    whole = plan_schedule(ScheduleConfig(warmup_steps=100), 1.0, 0.05, 100, 10)
    assert learning_rate(whole, 99) == 0.99


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup_steps": 1, "warmup_epochs": 1.0}, "warmup_epochs and warmup_steps contradict"),
        ({"warmup_steps": -1}, "must not be negative"),
        ({"restart_epochs": 0.0}, "restart_epochs must be positive"),
        ({"decay_ratio": 1.5}, "decay_ratio"),
    ],
)
def test_config__refuses(settings, message):
    with pytest.raises(ConfigError, match=message):
        ScheduleConfig(**settings)
