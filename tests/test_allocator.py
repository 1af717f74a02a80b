import subprocess
import sys

import pytest

COUNT = """
import resource, torch
{call}
x = torch.ones(2**24, requires_grad=True)
def step():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    x.sin().square().exp().sum().backward()
    x.grad = None
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(min(step() for _ in range(12)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the GNU C library's setting")
def test_freed_memory_is_not_cleared_again():
    """Forward and backward pass with tensors of 64 MB: more than it keeps by itself."""
    call = "from allaprima.allocator import keep_freed_memory; keep_freed_memory()"
    usual, kept = (
        int(subprocess.run([sys.executable, "-c", COUNT.format(call=c)], capture_output=True,
                           check=True).stdout)
        for c in ("", call)
    )  # fmt: skip
    assert kept < usual / 10
