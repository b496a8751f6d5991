import math
import subprocess
import sys
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.tracking import spool

VALUES = st.dictionaries(st.text(), st.floats() | st.text() | st.integers() | st.none(), max_size=3)
RECORDS = st.lists(st.fixed_dictionaries({"type": st.just("metrics"), "values": VALUES}), max_size=6)


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
        whole = sum(end <= cut for end in ends) - 1
        assert same(contents(folder), records[:whole])
        write(folder, more)  # the next process goes on after the torn line
        # a cut just before a line's end leaves a whole record, which the next writer's line end brings back
        kept = whole + (cut + 1 in ends[1:])
        assert same(contents(folder), records[:kept] + more)


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


def test_a_lock_is_held_by_one_at_a_time(tmp_path):
    with spool.locked(tmp_path / "lock") as first, spool.locked(tmp_path / "lock", wait=False) as second:
        assert (first, second) == (True, False)
    with spool.locked(tmp_path / "lock", wait=False) as third:
        assert third
