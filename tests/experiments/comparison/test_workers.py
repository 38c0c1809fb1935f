"""Which task a free worker takes."""

from dataclasses import dataclass
from multiprocessing import Pipe
from types import SimpleNamespace

from cloud_service.recommender.recipe import TrainingRecipe
from experiments.comparison.files import TRAINED, Trained, write_model
from experiments.comparison.tasks import Started, Task
from experiments.comparison.workers import Workers, _Worker
from shared.model import ModelSettings


@dataclass(frozen=True)
class FakeTask:
    name: str
    parts: frozenset[str]

    def trains(self):
        return {self.name, *self.parts}


class ByHand(Workers):
    """Its workers are connections whose other ends the test holds."""

    def __init__(self, count):
        super().__init__(count, threads=1, device="cpu")
        self.ends = []

    def _spawn(self):
        ours, theirs = Pipe()
        self.ends.append(theirs)
        process = SimpleNamespace(join=lambda *wait: None, is_alive=lambda: False)
        worker = _Worker(len(self._workers), process, ours)
        self._workers.append(worker)
        return worker


def task(name, *parts):
    return FakeTask(name, frozenset(parts))


def begun(events):
    """The tasks that begin now."""
    names = []
    for event in events:
        if not isinstance(event, Started):
            break
        names.append(event.task.name)
    return names


def test_a_task_that_needs_a_run_of_another_is_passed_over_until_that_ended():
    with ByHand(3) as pool:
        for each in (task("gcn", "scn", "knn"), task("shuffled", "scn"), task("scn"), task("mf")):
            pool.add(each)
        events = pool.events(tick=0.01)
        assert begun(events) == ["gcn", "mf"]
        pool.ends[0].send(("done", ""))
        assert next(events).task.name == "gcn"
        assert begun(events) == ["shuffled"]
        pool.ends[1].send(("done", ""))
        assert next(events).task.name == "mf"
        assert begun(events) == []
        pool.ends[0].send(("done", ""))
        assert next(events).task.name == "shuffled"
        assert begun(events) == ["scn"]


def test_a_task_trains_its_own_run_and_those_of_its_stages_that_are_not_done(tmp_path):
    recipe = TrainingRecipe(model=ModelSettings(gcn="projected"), teachers="item-knn")
    whole = Task(recipe, "synthetic", tmp_path, "clicks", tmp_path / "runs", test=True)
    scn, knn = (each.folder.path for each in whole.stages())
    assert whole.trains() == {whole.folder.path, scn, knn}
    knn.mkdir(parents=True)
    write_model(knn / TRAINED, Trained(status="done"))
    assert whole.trains() == {whole.folder.path, scn}
