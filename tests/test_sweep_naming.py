"""The name that a call of Tune's carries."""

from types import SimpleNamespace

from conftest import SmallWork

from renal_ray.sweep.naming import name_call, readable, worker_name


class Method:
    def options(self, **options: str) -> SimpleNamespace:
        return SimpleNamespace(**options)


def test_each_call_is_named_for_trial_and_stage(trained: SmallWork) -> None:
    first, second, *_ = trained.specs()
    trial = SimpleNamespace(
        temporary_state=SimpleNamespace(ray_actor=SimpleNamespace(train=Method()))
    )
    for spec, told, name in (
        (first, None, f"{readable(first)} (starting)"),
        (
            first,
            {"stage": "training", "epoch": 3, "epochs": 150},
            f"{readable(first)} (training 3/150)",
        ),
        (second, None, f"{readable(second)} (starting)"),  # the same actor goes on
    ):
        name_call(trial, spec, told)  # type: ignore[arg-type]
        assert trial.temporary_state.ray_actor.train.name == name
    assert readable(first) in worker_name(first)
    assert first.trial_id not in worker_name(first)


def test_a_trial_without_an_actor_is_left_alone(trained: SmallWork) -> None:
    trial = SimpleNamespace(temporary_state=SimpleNamespace(ray_actor=None))
    name_call(trial, trained.specs()[0])  # type: ignore[arg-type]
    assert trial.temporary_state.ray_actor is None
