import contextlib
import io
import math
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.tracking import spool

VALUES = st.dictionaries(st.text(), st.floats() | st.text() | st.integers() | st.none(), max_size=3)
RECORDS = st.lists(st.fixed_dictionaries({"type": st.just("tags"), "values": VALUES}), max_size=6)


def write(folder, records):
    writer = spool.Writer(folder)
    for record in records:
        writer.append(record)
    writer.close()


def contents(folder, offset=0):
    return [record.content for record in spool.read(folder, offset)]


def same(left, right):
    return repr(left) == repr(right)  # NaN equals itself here


@settings(deadline=None, max_examples=50)
@given(records=RECORDS, more=RECORDS, data=st.data())
def test_whatever_is_cut_off_the_whole_records_before_it_and_after_it_are_read(records, more, data):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, records)
        events = folder / spool.EVENTS
        ends = [0, *(record.end for record in spool.read(folder))]
        assert same(contents(folder), records)
        cut = data.draw(st.integers(0, events.stat().st_size))
        events.write_bytes(events.read_bytes()[:cut])
        # a cut just before a line's end leaves a whole record
        whole = sum(end <= cut for end in ends) - 1 + (cut + 1 in ends[1:])
        assert same(contents(folder), records[:whole])
        assert [record.end <= cut for record in spool.read(folder)] == [True] * whole
        write(folder, more)  # the next process goes on after the torn line
        assert same(contents(folder), records[:whole] + more)


def test_runs_of_no_interest_are_left_out(tmp_path):
    for name in "abc":
        write(tmp_path / name, [])
    (tmp_path / "no run").mkdir()
    assert sorted(folder.name for folder in spool.spools(tmp_path)) == ["a", "b", "c"]
    assert sorted(folder.name for folder in spool.spools(tmp_path, without={tmp_path / "b"})) == ["a", "c"]
    assert spool.spools(tmp_path / "a") == [tmp_path / "a"]
    assert spool.spools(tmp_path / "nowhere") == []


def test_reading_goes_on_where_it_stopped(tmp_path):
    write(tmp_path, [{"type": "tags", "values": {"n": n}} for n in range(5)])
    third = list(spool.read(tmp_path))[2]
    assert [content["values"]["n"] for content in contents(tmp_path, third.end)] == [3, 4]


def test_not_numbers_and_infinities_survive(tmp_path):
    write(tmp_path, [{"type": "metrics", "values": {"a": math.nan, "b": math.inf, "c": -math.inf}}])
    assert repr(contents(tmp_path)[0]["values"]) == "{'a': nan, 'b': inf, 'c': -inf}"


def test_a_record_outlives_a_kill_and_the_lock_does_not(tmp_path, environment):
    code = (
        "import os, signal, sys; from pathlib import Path; from pipeline.tracking import spool\n"
        "writer = spool.Writer(Path(sys.argv[1])); writer.append({'type': 'tags', 'values': {}})\n"
        "print(spool.is_alive(Path(sys.argv[1])), flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    child = subprocess.run([sys.executable, "-c", code, tmp_path], env=environment, capture_output=True, text=True)
    assert child.returncode == -9
    assert child.stdout.strip() == "True"
    assert contents(tmp_path) == [{"type": "tags", "values": {}}]
    assert not spool.is_alive(tmp_path)


POINTS = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 5), st.floats(allow_nan=True), st.booleans()), max_size=12
)


@example(first=[("a", 1, math.nan, False)], again=[("a", 1, math.nan, False)])
@example(first=[("a", 1, math.nan, False), ("b", 1, 1.0, True)], again=[("a", 1, 1.0, False), ("b", 1, 2.0, True)])
@given(first=POINTS, again=POINTS)
def test_a_point_is_written_once_whatever_is_replayed(first, again):
    """Against a plain model: the first value of each (name, step) stays, and each other value counts, if compared."""

    def log(folder, points):
        writer = spool.Writer(folder)
        for name, step, value, measured in points:
            writer.append_metrics({name: value}, step, measured)
        writer.close()
        return writer.differences

    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()) as said:
        log(Path(name), first)
        there = {}
        for key, step, value, _ in first:
            there.setdefault((key, step), value)
        differing = [
            (key, step)
            for key, step, value, measured in again
            if (key, step) in there
            and not measured
            and repr(value) != repr(there[key, step])
            and value != there[key, step]
        ]
        new = [point for point in again if point[:2] not in there]
        assert log(Path(name), again) == len(differing)
        records = [content for content in contents(Path(name)) if content["type"] == "metrics"]
        written = [(key, record["step"], value) for record in records for key, value in record["values"].items()]
        assert same(written, [point[:3] for point in first + new])
        told = [content for content in contents(Path(name)) if content["type"] == "determinism"]
        assert (told[-1]["count"] if told else 0) == len(differing)
        assert ("determinism lost" in said.getvalue()) == bool(differing)
        assert log(Path(name), []) == len(differing)  # a later process knows of it


def test_a_second_writer_waits_for_the_first_and_says_so(tmp_path, environment):
    code = (
        "import sys; from pathlib import Path; from pipeline.tracking import spool\n"
        "spool.Writer(Path(sys.argv[1])).append({'type': 'tags', 'values': {'by': 'second'}})"
    )
    first = spool.Writer(tmp_path)
    second = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert "another process still writes" in second.stderr.readline()
    first.append({"type": "tags", "values": {"by": "first"}})
    first.close()
    assert second.wait(30) == 0
    assert [content["values"]["by"] for content in contents(tmp_path)] == ["first", "second"]


def test_flush_brings_the_records_to_the_disk_before_it_returns(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(spool, "FSYNC_SECONDS", 3600.0)
    writer = spool.Writer(tmp_path)
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(os.fstat(descriptor).st_size), real(descriptor)))
    writer.append({"type": "tags", "values": {}})
    writer.flush()
    assert synced[-1] == spool.size(tmp_path) > 0
    writer.close()


def test_a_spool_at_rest_is_not_opened_meanwhile(tmp_path):
    writer = spool.Writer(tmp_path)
    with spool.at_rest(tmp_path, 0, 0.0) as rests:
        assert not rests
    writer.close()
    with spool.at_rest(tmp_path, 1, 0.0) as rests:
        assert not rests  # it has grown, or shrunk
    with spool.at_rest(tmp_path, 0, 0.0) as rests:
        assert rests
        opened = threading.Thread(target=lambda: spool.Writer(tmp_path).close())
        opened.start()
        opened.join(0.2)
        assert opened.is_alive()
    opened.join(10)
    assert not opened.is_alive()
