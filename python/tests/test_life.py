"""Threads, processes, signals, memory."""

import gc
import importlib.util
import multiprocessing
import os
import signal
import subprocess
import sys
import sysconfig
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import framerail as fr
import numpy as np
import pytest
from clips import HEIGHT, WIDTH, number_of, numbers_of

pytestmark = pytest.mark.usefixtures("no_hang")


def test_one_reader_serves_several_threads(clip):
    reader = fr.VideoReader(clip, output="numpy")

    def read(seed):
        wanted = np.random.default_rng(seed).integers(0, 60, 5).tolist()
        return wanted == numbers_of(reader.read_frames(wanted))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(40)))


def test_other_threads_run_while_frames_are_made(long_clip):
    reader = fr.VideoReader(long_clip, output="numpy", size=(HEIGHT * 4, WIDTH * 4))
    worker = threading.Thread(target=lambda: reader.read_frames(range(0, 600, 3)))
    worker.start()
    began = last = time.monotonic()
    longest = 0.0
    while worker.is_alive():
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    worker.join()
    # With the GIL held, this thread would stand still for nearly the whole time.
    assert longest < (last - began) / 2, f"{longest:.3f} of {last - began:.3f} s without a turn"


def read_in_child(reader, to):
    to.put(numbers_of(reader.read_frames([40, 7])))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_readers_go_to_other_processes(clip, method):
    reader = fr.VideoReader(clip, output="numpy")
    assert number_of(reader[3]) == 3
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    children = [context.Process(target=read_in_child, args=(reader, queue)) for _ in range(2)]
    for child in children:
        child.start()
    assert [queue.get(timeout=60) for _ in children] == [[40, 7]] * 2
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert number_of(reader[4]) == 4, "the parent's reader goes on"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_ends_with_everything_open(clip):
    reader = fr.VideoReader(clip, output="numpy")
    batches = reader.batches(4)
    first = next(batches)
    child = os.fork()
    if child == 0:
        try:
            raised = False
            try:
                next(batches)
            except RuntimeError as error:
                raised = "fork" in str(error)
            fine = raised and number_of(first.data[0]) == 0 and number_of(reader[9]) == 9
            del reader, batches, first
            gc.collect()
            os._exit(0 if fine else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sum(len(batch) for batch in batches) == 56


SLOW_SOURCE = """
import io, sys, time
import framerail as fr

class Slow(io.FileIO):
    slow = False
    def read(self, size=-1):
        if self.slow:
            print("reading", flush=True)
            time.sleep(0.3)
        return super().read(min(size, 2000) if size > 0 else size)

source = Slow(sys.argv[1])
reader = fr.VideoReader(source, output="numpy", timeout=None)
len(reader)
source.slow = True
began = time.monotonic()
try:
    {work}
except KeyboardInterrupt:
    source.slow = False
    print("interrupted", flush=True)
    assert reader.read_frames([3]).shape[0] == 1
    print("works again", flush=True)
"""


@pytest.mark.parametrize("work", ["reader.read_frames(range(600))", "[batch for batch in reader.batches(16)]"])
def test_ctrl_c_ends_a_long_read(long_clip, tmp_path, work):
    script = tmp_path / "slow.py"
    script.write_text(SLOW_SOURCE.format(work=work))
    process = subprocess.Popen([sys.executable, str(script), str(long_clip)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "reading"
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert "interrupted" in out and "works again" in out, out + errors
    assert process.returncode == 0, errors


def test_a_source_that_gives_nothing_ends_in_a_timeout(long_clip):
    import io

    class Stuck(io.BytesIO):
        stuck = False

        def read(self, size=-1):
            while self.stuck:
                time.sleep(0.05)
            return super().read(size)

    source = Stuck(long_clip.read_bytes())
    reader = fr.VideoReader(source, output="numpy", timeout=0.5)
    assert number_of(reader[0]) == 0
    source.stuck = True
    try:
        with pytest.raises(TimeoutError):
            reader.read_frames([500])
    finally:
        source.stuck = False
    reader.close()


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files():
    return len(os.listdir("/proc/self/fd"))


def test_nothing_grows_when_readers_come_and_go(clip):
    def round_trip():
        for number in range(30):
            with fr.VideoReader(clip, output="numpy") as reader:
                assert number_of(reader[number]) == number
                batches = reader.batches(8)
                next(batches)
        gc.collect()

    round_trip()
    memory, files, threads = resident_bytes(), open_files(), len(os.listdir("/proc/self/task"))
    for _ in range(3):
        round_trip()
    assert open_files() <= files
    assert len(os.listdir("/proc/self/task")) <= threads + 2
    assert resident_bytes() - memory < 40e6


def test_python_ends_cleanly_with_everything_open(clip):
    script = """
        import sys, framerail as fr
        reader = fr.VideoReader(sys.argv[1], output="numpy")
        batches = reader.batches(4)
        first = next(batches)
        file = fr.VideoReader(open(sys.argv[1], "rb"), output="numpy")
        more = file.batches(2)
        next(more)
        print("end", flush=True)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(clip)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "end", "")


def test_python_ends_while_a_source_of_python_is_read(clip):
    # A thread that wakes inside of Python after its end used to abort the process.
    script = """
        import io, sys, threading, time
        import framerail as fr

        began = threading.Event()

        class Slow(io.FileIO):
            slow = False
            def read(self, size=-1):
                if self.slow:
                    began.set()
                    time.sleep(0.2)
                return super().read(min(size, 4000) if size > 0 else size)

        source = Slow(sys.argv[1])
        reader = fr.VideoReader(source, output="dlpack")
        len(reader)
        source.slow = True
        batches = reader.batches(4)
        assert began.wait(30)
        print("end", flush=True)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(clip)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "end", "")


def program(*arguments, **options):
    command = [sys.executable, "-m", "framerail", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def test_the_package_is_the_program(clip, tmp_path):
    shown = program("--help")
    assert shown.returncode == 0 and "blur-faces" in shown.stdout and "index" in shown.stdout
    assert "FFmpeg" in program("--version").stdout
    assert '"codec": "h264"' in program("probe", clip, "--json").stdout.replace('":"', '": "')
    written = tmp_path / "out.mkv"
    done = program("run", f"read '{clip}' ! write '{written}'")
    assert done.returncode == 0 and written.stat().st_size > 0, done.stderr
    wrong = program("run", f"read '{clip}' ! blurr ! null")
    assert wrong.returncode == 2 and "blur" in wrong.stderr
    missing = program("probe", tmp_path / "none.mp4")
    assert missing.returncode == 3 and "Traceback" not in missing.stderr
    assert "numpy" in program("doctor").stdout


def test_subinterpreters_refuse_the_package():
    code = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
if IN_MAIN:
    import framerail
other = interpreters.create()
failed = interpreters.run_string(other, "import sys; sys.path[:] = %r; import framerail" % sys.path)
print(failed.formatted if failed else "imported")
"""
    if sys.version_info >= (3, 14) or importlib.util.find_spec("_xxsubinterpreters" if sys.version_info < (3, 13) else "_interpreters") is None:
        pytest.skip("this Python has no such module of subinterpreters")
    for in_main in (False, True):
        text = "import sys\n" + code.replace("IN_MAIN", str(in_main))
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
        assert "framerail cannot be used in a subinterpreter" in done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [("doctor",), ("--help",), ("help", "run"), ("index", "--help"), ("probe", "{clip}")], ids=" ".join)
def test_a_closed_pipe_ends_the_program_quietly(clip, arguments):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "framerail", *(argument.format(clip=clip) for argument in arguments)],
            stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


FULL_DISK = {
    "doctor": "framerail doctor",
    "index": "framerail index {folder} -o {out}",
    "help": "framerail --help",
    "help of a command": "framerail run --help",
    "version": "framerail --version",
    "help of index": "framerail index --help",
    "help of fetch-models": "framerail fetch-models --help",
    "help of the benchmark": "framerail.bench readers --help",
}


@pytest.mark.parametrize("line", FULL_DISK.values(), ids=FULL_DISK)
def test_a_full_disk_behind_standard_output_is_reported_in_one_line(clip, tmp_path, line):
    arguments = [word.format(folder=os.path.dirname(clip), out=tmp_path / "index.parquet") for word in line.split()]
    # argparse ignores a failed write, which is the first one in an unbuffered stream.
    environment = {**os.environ, "PYTHONUNBUFFERED": "1" if "help" in line else ""}
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", *arguments], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, env=environment)
    assert (done.returncode, done.stderr.count("error:")) == (4, 1), done.stderr
    assert "error: cannot write to standard output: No space left on device" in done.stderr


def test_ctrl_c_finishes_the_output_of_the_program_in_the_package(clip, tmp_path):
    written = tmp_path / "out.mkv"
    line = f"read '{clip}' realtime=yes ! write '{written}'"
    command = [sys.executable, "-m", "framerail", "-v", "run", line]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.iterdir()) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "KeyboardInterrupt" not in errors, errors
    assert written.exists()


def test_warnings_go_to_pythons_logging(tmp_path):
    fr.set_log_level("info")
    fr.set_log_level("warn")
    with pytest.raises(ValueError, match="level"):
        fr.set_log_level("loud")


WITHOUT_NUMPY = """
    import pickle, sys
    sys.modules["numpy"] = None
    import framerail as fr
    clip = sys.argv[1]
    with fr.VideoReader(clip) as reader:
        batch = reader.read([3, 9, 12])
        assert type(batch.data) is fr.Tensor and batch.data.shape == (3, 3, 96, 128), batch
        assert batch.numbers.tolist() == [3, 9, 12] and batch.status == ("ok", "ok", "ok") and batch.seconds[2] == 0.48
        batch.numbers[0] = 7
        assert [frame.number for frame in batch] == [7, 9, 12] and batch[-1].data.shape == (3, 96, 128)
        assert reader.read(5).seconds == 0.2 and reader[5].shape == (3, 96, 128) and reader.numbers_at(0.2) == 5
        assert len(reader.times) == 60 and repr(batch) and repr(reader.times)
        assert sum(len(batch) for batch in reader.batches(16, size=32)) == 60
    try:
        fr.VideoReader(clip, output="numpy")[0]
        raise SystemExit("NumPy is not there")
    except ImportError as error:
        assert "pip install" in str(error)
    mask = fr.InstanceMask((1, 2, 9, 10), [[0, 255], [128, 1]])
    assert mask.coverage.tolist() == [[0, 255], [128, 1]] and pickle.loads(pickle.dumps(mask)) == mask
    vector = fr.Attribute("m", embedding=[0.5, 1.0])
    assert pickle.loads(pickle.dumps(vector)) == vector
    def look(batch):
        for frame in batch:
            frame.detections = [fr.Detection((1, 2, 3, 4), attributes=[vector, fr.Attribute("n", mask=mask)])]
    seen = []
    pipeline = fr.Pipeline(f"read '{clip}' device=cpu ! null")
    pipeline.insert_after("read", look).on("look", lambda items: seen.extend(items))
    pipeline.run()
    (one,) = seen[59].detections
    assert one.attributes[0].embedding.tolist() == [0.5, 1.0] and one.attributes[1].mask == mask
    assert "numpy" not in {name for name, module in sys.modules.items() if module is not None}
"""


def test_numpy_is_optional(clip):
    script = textwrap.dedent(WITHOUT_NUMPY)
    if importlib.util.find_spec("torch"):
        script = script.replace("import framerail", "sys.modules['torch'] = None; import framerail", 1)
    done = subprocess.run([sys.executable, "-c", script, str(clip)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_package_needs_no_gil():
    # The module declares it; a free-threaded Python would take the GIL back on import where it did not.
    script = "import sys, framerail; print(getattr(sys, '_is_gil_enabled', lambda: None)())"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True)
    is_free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    assert done.returncode == 0 and (not is_free_threaded or done.stdout.strip() == "False"), done.stderr
