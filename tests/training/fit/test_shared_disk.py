from helpers.group_threads import each, processes
from regraft.training.fit import shared_disk


def test_nodes_with_disks_of_their_own_share_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_disk, "_SECONDS_TO_SEE", 0.1)
    group = processes(4, num_nodes=2)
    assert each(group, lambda process: shared_disk.sharing(process, "one", tmp_path / "store")) == [[0, 1, 2, 3]] * 4
    assert not list((tmp_path / "store").iterdir())
    apart = each(group, lambda process: shared_disk.sharing(process, "own", tmp_path / str(process.place.node)))
    assert apart == [[0, 1], [0, 1], [2, 3], [2, 3]]
    (tmp_path / "file").write_text("")
    nowhere = each(group, lambda process: shared_disk.sharing(process, "none", tmp_path / "file" / "store"))
    assert nowhere == apart
