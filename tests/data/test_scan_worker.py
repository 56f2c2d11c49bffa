import json
import subprocess
import sys

from drawn import drawn, encoded, put
from maekit.data.scan_worker import examine


def test_examine__facts_or_a_reason(tmp_path):
    good = examine(put(tmp_path / "a.png", encoded(drawn(0), "PNG")), 10**6)
    assert (good["height"], good["width"], good["channels"], good["bits"]) == (64, 96, 3, 8)
    assert examine(put(tmp_path / "b.png", b""), 10**6) == {"reason": "empty file", "lasting": True}


def test_main__needs_no_torch_and_no_current_folder(tmp_path):
    """A file `queue.py` among the pictures is not imported; each line gets its answer."""
    path = put(tmp_path / "a.png", encoded(drawn(0), "PNG"))
    put(tmp_path / "queue.py", b"raise SystemExit('imported')")
    code = "import sys, maekit.data.scan_worker; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-P", "-c", code], check=True, cwd=tmp_path)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "maekit.data.scan_worker", "1000000"],
        input=json.dumps(str(path)) + "\n",
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert json.loads(done.stdout)["width"] == 96
