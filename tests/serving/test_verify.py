"""The verification client: against a real server, and on metrics texts."""

import json
import shutil
from types import SimpleNamespace

import pytest

from serving.verify import __main__ as verify
from serving.verify import server as watching
from serving.verify.client import Failed
from serving.verify.counters import Counters
from serving.verify.server import Verification
from tests.support.http_double import serving
from tests.support.serving_processes import KEY

CHECKS = ["version", "health", "ready", "golden answers", "contract", "keys", "load"]


def run(monkeypatch, tmp_path, command, url, bundle, *arguments, key=KEY):
    """One command of the client; exit code and report."""
    monkeypatch.setenv(verify.KEY_VARIABLE, key)
    report = tmp_path / "report.json"
    quick = ["--seconds", "0.5", "--settle-seconds", "0.5", "--max-p95-ms", "2000"]
    given = [command, url, "--bundle", str(bundle), "--report", str(report), *quick]
    code = verify.main([*given, *(arguments or ("--version", "0"))])
    return code, json.loads(report.read_text())


def failed(report):
    return [check["name"] for check in report["checks"] if not check["passed"]]


def test_sound_server_passes_every_check(monkeypatch, tmp_path, server, attrition):
    code, report = run(monkeypatch, tmp_path, "server", f"http://127.0.0.1:{server.port}", attrition.folder)
    assert (code, report["passed"], failed(report)) == (0, True, [])
    assert [check["name"] for check in report["checks"]] == CHECKS
    assert report["requests"] > 0
    assert report["errors"] == 0
    assert report["p95_ms"] >= report["p50_ms"] > 0


def test_sound_server_is_watched_by_its_own_counters(monkeypatch, tmp_path, server, attrition):
    code, report = run(monkeypatch, tmp_path, "watch", f"http://127.0.0.1:{server.metrics_port}", attrition.folder)
    assert (code, failed(report)) == (0, [])
    assert report["requests"] > 0


def test_calls_carry_the_trace_of_who_verifies(monkeypatch, tmp_path, server, attrition):
    trace = "5c" * 16
    monkeypatch.setenv("TRACEPARENT", f"00-{trace}-{'7a' * 8}-00")
    code, _ = run(monkeypatch, tmp_path, "server", f"http://127.0.0.1:{server.port}", attrition.folder)
    assert code == 0
    told = [line for line in server.log_lines() if line.get("trace_id") == trace]
    assert {line["type"] for line in told} == {"InputData", "OutputData"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda effects: effects | {next(iter(effects)): 9.0}, "should name"),
        (lambda effects: dict(list(effects.items())[1:]), "should name"),
        (lambda effects: effects | {"Another": 0.1}, "should name"),
    ],
    ids=["other effect", "one less", "one more"],
)
def test_other_reasons_fail_the_golden_answers(tmp_path, capsys, attrition, change, said):
    other = tmp_path / "other"
    shutil.copytree(attrition.folder, other)
    examples = json.loads((other / "examples.json").read_text())
    examples["reasons"][1] = change(examples["reasons"][1])
    (other / "examples.json").write_text(json.dumps(examples))
    assert verify.main(["bundle", str(other)]) == 1
    printed = capsys.readouterr().out
    assert "reasons: example 1" in printed
    assert said in printed


def test_other_version_fails_and_is_the_only_check(monkeypatch, tmp_path, server, attrition):
    code, report = run(
        monkeypatch, tmp_path, "server", f"http://127.0.0.1:{server.port}", attrition.folder, "--version", "7"
    )
    assert (code, failed(report)) == (1, ["version"])
    assert report["checks"][0]["detail"] == "the server runs version 0, not 7"


def test_other_model_fails_the_golden_answers_and_the_load(monkeypatch, tmp_path, server, attrition):
    other = tmp_path / "other"
    shutil.copytree(attrition.folder, other)
    examples = json.loads((other / "examples.json").read_text())
    examples["classifier__predictions"][0] += 2e-6
    (other / "examples.json").write_text(json.dumps(examples))
    code, report = run(monkeypatch, tmp_path, "server", f"http://127.0.0.1:{server.port}", other)
    assert code == 1
    assert "golden answers" in failed(report)


def test_wrong_key_fails_what_needs_one(monkeypatch, tmp_path, server, attrition):
    code, report = run(
        monkeypatch, tmp_path, "server", f"http://127.0.0.1:{server.port}", attrition.folder, key="not the key"
    )
    assert code == 1
    assert {"golden answers", "load"} <= set(failed(report))
    assert "not the key" not in json.dumps(report)


def test_load_slower_than_allowed_fails_and_says_both(monkeypatch, tmp_path, server, attrition):
    limits = ("--version", "0", "--max-p95-ms", "0.001")
    _, report = run(monkeypatch, tmp_path, "server", f"http://127.0.0.1:{server.port}", attrition.folder, *limits)
    assert failed(report) == ["load"]
    assert "allowed: p95 0.001 ms" in report["checks"][-1]["detail"]


def test_unreachable_server_fails_without_a_traceback(monkeypatch, tmp_path, attrition):
    code, report = run(monkeypatch, tmp_path, "server", "http://127.0.0.1:9", attrition.folder)
    assert (code, failed(report)) == (1, ["version"])
    assert "refused" in report["checks"][0]["detail"]


@pytest.mark.parametrize("command", ["server", "watch"])
@pytest.mark.parametrize("said", [["a list"], {"model": None}, {"service": "another"}, "the page of a proxy", None])
def test_whatever_answers_in_its_place_fails_without_a_traceback(monkeypatch, tmp_path, attrition, command, said):
    with serving(lambda request: (200, said)) as other:
        code, report = run(monkeypatch, tmp_path, command, other.url, attrition.folder, "--version", "1")
    assert (code, failed(report)) == (1, ["version"])


def test_bundle_that_does_not_load_fails_with_the_reason(tmp_path, capsys):
    assert verify.main(["bundle", str(tmp_path)]) == 1
    assert "FAILED bundle:" in capsys.readouterr().out


def test_sound_bundle_passes(attrition, capsys):
    assert verify.main(["bundle", str(attrition.folder)]) == 0
    assert "examples reproduced" in capsys.readouterr().out


def metrics(ok=10, failed_requests=0, buckets=((0.001, 5), (0.01, 10), ("+Inf", 10))):
    lines = [
        f'scoring_requests_total{{endpoint="predict",status="200"}} {ok}.0',
        f'scoring_requests_total{{endpoint="predict",status="503"}} {failed_requests}.0',
        'scoring_requests_total{endpoint="metrics",status="200"} 99.0',
        *(f'scoring_request_duration_seconds_bucket{{le="{bound}"}} {count}.0' for bound, count in buckets),
    ]
    return Counters.parse("\n".join(lines))


def test_metrics_count_predictions_and_their_server_errors_alone():
    assert (metrics(ok=10, failed_requests=2).requests, metrics(failed_requests=2).errors) == (12, 2)


@pytest.mark.parametrize(("share", "expected"), [(0.5, 1.0), (0.75, 5.5), (1.0, 10.0)])
def test_percentile_is_linear_within_its_bucket(share, expected):
    assert metrics().percentile_ms(share) == pytest.approx(expected)


def test_percentile_beyond_the_last_bound_counts_as_that_bound():
    assert metrics(buckets=((0.01, 5), ("+Inf", 10))).percentile_ms(0.95) == 10.0


def test_percentile_without_a_request_is_unknown():
    assert metrics(buckets=(("+Inf", 0),)).percentile_ms(0.95) is None


def test_difference_leaves_what_was_before_out():
    since = metrics(ok=15, buckets=((0.001, 5), (0.01, 15), ("+Inf", 15))).since(metrics())
    assert (since.requests, since.errors, since.buckets[0.001], since.buckets[0.01]) == (5, 0, 0, 5)


def watched(monkeypatch, attrition, polls):
    """A watch of ten polls at a server that answers each as told: counters, or ``None`` for a dropped connection."""
    now, answers = [0.0], iter([metrics(), *polls])
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: now.__setitem__(0, now[0] + seconds))
    monkeypatch.setattr(watching, "time", clock)
    monkeypatch.setattr(Verification, "_ask_one", lambda *_: None)

    def scrape(*_):
        if (found := next(answers)) is None:
            raise ConnectionResetError("the connection was reset")
        return found

    monkeypatch.setattr(Verification, "_scrape", scrape)
    return Verification("http://canary:8081", attrition.folder, None).watch(9.5, 500.0, 0.01)


def growing(count):
    return [metrics(ok=10 + number, buckets=((0.01, 10 + number), ("+Inf", 10 + number))) for number in range(1, count)]


def test_one_lost_connection_ends_no_canary(monkeypatch, attrition):
    assert watched(monkeypatch, attrition, [None, *growing(10)]).startswith("9 requests, 0 errors")


def test_canary_that_drops_every_other_connection_fails(monkeypatch, attrition):
    """Its counters tell of what it has answered, and it never stayed away for three polls."""
    polls = [answer for one in growing(6) for answer in (one, None)]
    with pytest.raises(Failed, match=r"5 of 10 requests had no answer, last: the connection was reset"):
        watched(monkeypatch, attrition, polls)


def test_canary_that_was_restarted_and_has_caught_up_fails(monkeypatch, attrition):
    with pytest.raises(Failed, match="counters fell"):
        watched(monkeypatch, attrition, [metrics(ok=30), metrics(ok=1), *growing(9)])


def test_counter_that_fell_means_a_restart():
    assert metrics(ok=3).since(metrics(ok=10)) is None
