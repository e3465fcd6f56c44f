from regraft.core import content_hash


def test_changed_code_is_another_digest(tmp_path, monkeypatch):
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("x = 1\n")
    monkeypatch.setattr(content_hash, "__file__", str(tmp_path / "core" / "content_hash.py"))
    before = content_hash.code_hash.__wrapped__("a.py", "b.py")
    (tmp_path / "b.py").write_text("x = 2\n")
    assert content_hash.code_hash.__wrapped__("a.py", "b.py") != before
