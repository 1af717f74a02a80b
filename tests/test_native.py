import platform
import shutil

import pytest

from allaprima import native

SOURCES = sorted(file.stem for file in native.SOURCES.glob("*.c"))


@pytest.mark.skipif(
    platform.machine() not in native.MACHINE_FLAGS
    or not any(map(shutil.which, ("gcc", "cc", "clang"))),
    reason="no C compiler here",
)
@pytest.mark.parametrize("name", SOURCES)
def test_every_source_compiles_where_there_is_a_compiler(name):
    """Else the tests of compiled code would skip themselves, and a mistake in it go unseen."""
    assert native.compile_library(name).exists()
