import pytest

from regraft.core import processor

AMD = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 avx512f avx512_bf16\n"


@pytest.fixture
def cpuinfo(tmp_path, monkeypatch):
    """Returns the file that is read; what was read of another one is forgotten."""
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(processor, "_CPUINFO", file)
    cached = (processor.has_bfloat16, processor.is_amd_with_avx512)
    for each in cached:
        each.cache_clear()
    yield file
    for each in cached:
        each.cache_clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512_bf16 amx_tile\n", True),
        ("flags\t\t: fpu avx2 avx512f avx512bw\n", False),
        ("Features\t: fp asimd bf16 i8mm\n", True),
        ("Features\t: fp asimd\n", False),
        ("processor\t: 0\n", None),
        (None, None),
    ],
)
def test_bfloat16_is_read_from_the_flags(text, expected, cpuinfo):
    if text is not None:
        cpuinfo.write_text(text)
    assert processor.has_bfloat16() is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{AMD}\n{AMD}", True),
        (AMD.replace("AuthenticAMD", "GenuineIntel"), False),
        (AMD.replace("avx512", "avx"), False),
        ("Features\t: fp asimd bf16 i8mm\n", False),
        (None, False),
    ],
)
def test_amd_with_avx512(text, expected, cpuinfo):
    if text is not None:
        cpuinfo.write_text(text)
    assert processor.is_amd_with_avx512() is expected
